@0xc3b1d5a0f2e94711;

# The Scaler wire protocol, version 7.
#
# One message is a list of ZeroMQ frames:
#
#   frame 0   an `Envelope`: what this end has sent and received (always 48 bytes)
#   frame 1   a `Message`: the header, a Cap'n Proto message in the standard (unpacked) stream framing
#   frame 2…  payload bytes, as many frames as the header's kind says; never interpreted by scheduler or object store
#
# Batches are columnar. A column is a `Data` that holds a packed little-endian array, one element per task:
# U8, U16, U32 or U64, named in the comment. A column may be empty if all tasks have the same value; the comment says
# which value that is. Byte strings of any length take two parts: a U32 column of lengths in the header, and the bytes
# of all tasks, end to end, in one payload frame. A *sparse* column is a pair: `…Positions` (U32, rows of the batch) and
# the values. Positions ascend; a row may occur several times or not at all.
#
# Ids: a client, an agent and a scheduler process are each known by 16 random bytes, their *incarnation*. A task is
# (client incarnation, number). The client chooses the numbers and uses each once. The id of a function or of an object
# has 16 bytes.
#
# Payloads of functions, arguments, results and failures begin with a tag of one byte, which only clients and workers read. Python
# uses pickles. The tag for plain data, "J", is for all languages: of a function it is followed by "package.module:function" in
# UTF-8; of arguments by the JSON of [[positional, …], {"name": value}]; of a result by the JSON of the value; of a failure by the
# JSON of {"type", "text", "traceback"}. Larger ones are "O" and the 16 bytes of an object's id, whose first buffer is such a payload.
# docs/clients.md says what JSON stands for integers beyond 2**53, NaN, bytes and datetimes.
#
# Clients and agents connect with DEALER to the scheduler's ROUTER; the object storage server has a ROUTER of its own.
# In comments: C client, A agent, S scheduler, O object storage server, M monitor; C→S is a message from client to scheduler.

struct Envelope {
  # Session rules (see ARCHITECTURE.md, "Sessions"). Fixed size, so it may be written without a Cap'n Proto library:
  # 16 constant bytes (00000000 05000000 00000000 04000000), then the four fields.
  sequence @0 :UInt64;         # number of the last sequenced message sent in this session, this one included
  acknowledged @1 :UInt64;     # number of the last sequenced message received in order
  flags @2 :UInt64;            # bit 0: this message is sequenced; bit 1: send everything after `acknowledged` again
  epoch @3 :UInt64;            # number of the hello that began this session; envelopes of another epoch are dropped
}

struct Message {
  union {
    hello @0 :Hello;
    welcome @1 :Welcome;
    refused @2 :Text;                    # S→any: the reason, in one sentence. No session was started.
    unknownPeer @3 :Void;                # S→any: there is no session with this peer; it should say hello
    heartbeat @4 :Heartbeat;
    goodbye @5 :Text;                    # any→any: the session ends now; the text is the reason, for people
    taskBatch @6 :TaskBatch;
    resultBatch @7 :ResultBatch;
    functionDefine @8 :FunctionDefine;
    taskCancel @9 :TaskCancel;           # C→S, S→A
    taskRecall @10 :UInt32;              # S→A: give back at most this many tasks that have not started
    taskReturn @11 :TaskList;            # A→S: tasks given back; they have not started
    inventory @12 :Inventory;
    graphSubmit @13 :GraphSubmit;
    clientGone @14 :Data;                # S→A, A→S, S→O: this client incarnation has ended; drop what belongs to it
    creditRequest @15 :UInt32;           # C→S: how many tasks wait for permission
    creditGrant @16 :UInt32;             # S→C: how many more tasks the client may submit
    shutdown @17 :Text;                  # C→S: stop the cluster. S→A, S→C, S→O: it stops. The text is the reason.
    notice @18 :Notice;
    output @19 :Output;
    relay @20 :Relay;
    objectPut @21 :ObjectPut;
    objectPutReply @22 :ObjectReply;
    objectGet @23 :ObjectGet;
    objectData @24 :ObjectData;
    objectDelete @25 :ObjectDelete;
    monitorSnapshot @26 :MonitorSnapshot;
    monitorEvents @27 :MonitorEvents;
    drain @28 :Void;                     # A→S: send no more tasks, the agent leaves soon. S→A: finish and leave.
    objectDeleteReply @29 :ObjectReply;
    storeStatusRequest @30 :UInt64;      # S→O: ask how much is stored. The answer has the same number.
    storeStatus @31 :StoreStatus;        # O→S
    monitorFailures @32 :MonitorFailures;
    monitorLog @33 :MonitorLog;
    monitorDump @34 :MonitorDump;
    chunkFailures @35 :ChunkFailures;
    objectsHeld @36 :ObjectsHeld;
    objectHomes @37 :ObjectHomes;
    objectWanted @38 :ObjectWanted;
    objectsGone @39 :ObjectsGone;
    objectsLost @40 :ObjectsLost;
    objectBatch @41 :ObjectBatch;
    objectLayout @42 :ObjectLayout;
    workerListRequest @43 :Void;         # C→S: which workers are connected? One workerList answers each request, in their order.
    workerList @44 :WorkerList;
    schedulerStatus @45 :SchedulerStatus; # S→S; S→any: the answer to a hello by a scheduler that is not first
    jobRequest @46 :JobRequest;
    jobReply @47 :JobReply;
    grantsHeld @48 :GrantsHeld;
    grantsFreed @49 :Data;               # A→S: nothing of what tasks of this client were granted is in use here any more, see `clientGone`
    lockRequest @50 :LockRequest;
    lockRelease @51 :UInt64;             # C→S: this lease ends, held or not. A lockAnswer follows.
    lockAnswer @52 :LockAnswer;
    taskProgress @53 :TaskProgress;
    outputRequest @54 :OutputRequest;
    outputReply @55 :OutputReply;
    monitorOutput @56 :MonitorOutput;
    cancelRequest @57 :CancelRequest;
    cancelReply @58 :CancelReply;
    profileRequest @59 :ProfileRequest;
    profileSamples @60 :ProfileSamples;
    monitorProfile @61 :MonitorProfile;
    monitorGraph @62 :MonitorGraph;
    objectListRequest @63 :ObjectListRequest;
    objectList @64 :ObjectList;
    clientsKnown @65 :ClientsKnown;
  }
}

struct Capability {
  name @0 :Text;
  value @1 :Int64;                       # -1 if none was given; shown, and not used to place tasks
}

struct Hello {
  # First message of every peer, sent again whenever the other end has been silent.
  role @0 :Role;
  protocolVersion @1 :UInt16;            # must equal the scheduler's
  pythonVersion @2 :Text;                # "3.11"; must be equal for all clients and agents of a scheduler; empty: a client without pickles
  softwareVersion @3 :Text;
  name @4 :Text;                         # for people; does not change
  incarnation @5 :Data;                  # 16 bytes
  hostname @6 :Text;
  pid @7 :UInt32;
  schedulerIncarnation @8 :Data;         # of the session to resume; empty for a new one
  workerNames @9 :List(Text);            # agents: one per slot
  capabilities @10 :List(Capability);    # agents: what each of their workers offers
  capacity @11 :UInt32;                  # agents: how many tasks they want to hold at first
  queueLimit @12 :UInt32;                # agents: most tasks they hold per worker
  streamOutput @13 :Bool;                # clients: whether they want the output of their tasks
  timeoutSeconds @14 :Float64;           # silence after which the scheduler gives this peer up; 0: the scheduler's setting
  helloNumber @15 :UInt32;               # counts this peer's hellos; the answer repeats it, so that late answers are recognized
  takesChains @16 :Bool;                 # agents: whether they accept batches with chains
  toObjectStorage @17 :Bool;             # true: the peer wants object storage; false: a scheduler
  parent @18 :Data;                      # clients inside a task: the client that submitted this task; empty: none
  group @19 :Text;                       # clients: the group whose share their tasks count against; empty: none named
  term @20 :UInt64;                      # the highest term whose scheduler this peer has obeyed; 0: none yet
  resources @21 :Text;                   # agents: what their host offers for all workers together: "cores=8,gpu=2,mem=64GiB"
  devices @22 :List(Text);               # agents: the GPUs among it
  user @23 :Text;                        # clients: who runs them, as the system names them; empty: not known
  memoryBytes @24 :UInt64;               # agents: the memory that their host or container has; 0: not known
  processorLimitBytes @25 :UInt64;       # agents: what one of their processors may use of it; 0: no limit

  enum Role { client @0; agent @1; scheduler @2; monitor @3; }
}

struct Welcome {
  incarnation @0 :Data;                  # the scheduler's, 16 bytes
  resumed @1 :Bool;                      # false: a new session; counters start at 0, and the peer announces what it holds
  objectStorageAddress @2 :Text;         # empty: none
  monitorAddress @3 :Text;
  heartbeatSeconds @4 :Float64;          # send at least one message in this time
  timeoutSeconds @5 :Float64;            # silence after which the scheduler gives the peer up
  protected @6 :Bool;
  taskCredit @7 :Int64;                  # clients: tasks that may be submitted without asking; -1: no limit
  protocolVersion @8 :UInt16;
  softwareVersion @9 :Text;
  capabilityPolicy @10 :Bool;            # whether capabilities are enforced
  helloNumber @11 :UInt32;               # of the hello this answers
  segmentOffer @12 :Data;                # O→any: pid and descriptor, U32 each, of the file that only peers on its host can read; empty: none
  endsCluster @13 :Bool;                 # no other scheduler follows this one: peers do not wait for one when it ends
  takesHomes @14 :Bool;                  # O→A: agents may tell it of objects in the stores of their hosts
  dashboardUrl @15 :Text;                # where people see the cluster in a browser; empty: nowhere that the scheduler knows of
  term @16 :UInt64;                      # the scheduler's term; peers never go back to a scheduler with a lower one; 0: object storage
}

struct SchedulerStatus {
  # Which of two schedulers is first. Each answers the other's, so that both hear of the higher term.
  term @0 :UInt64;                       # the sender's term if it is first, else the highest that it knows of
  isFirst @1 :Bool;                      # false: a standby, which accepts no peers
  incarnation @2 :Data;                  # the sender's process, 16 bytes
  answers @3 :Bool;                      # true: the answer to another one's, or to a hello; nobody answers it
  ends @4 :Bool;                         # true: the sender stops in order; another one need not wait for its lease
}

struct Heartbeat {
  # In both directions. A column has one element per worker of the agent. Clients and the scheduler leave columns empty.
  sentAtSeconds @0 :Float64;             # sender's clock; the scheduler returns it in `echoSeconds`
  echoSeconds @1 :Float64;
  capacity @2 :UInt32;                   # agents: how many tasks they want to hold now, running ones included
  cpuPercent @3 :Float32;                # of the sending process
  rssBytes @4 :UInt64;
  rssFreeBytes @5 :UInt64;               # free memory of its host
  queued @6 :UInt32;                     # agents: tasks that have not started
  latencySeconds @7 :Float64;            # last measured round trip
  processorPids @8 :Data;                # U32
  processorCpuPercents @9 :Data;         # U16, tenths of a percent
  processorRssBytes @10 :Data;           # U64
  processorStates @11 :Data;             # U8: 0 starting, 1 idle, 2 running, 3 blocked on a nested task, 4 stopping
  processorTasks @12 :Data;              # U64: number of the running task; no meaning if none runs
  processorFunctions @13 :Data;          # 16 bytes each: its function; zeros if none runs
  processorMilliseconds @14 :Data;       # U32: how long it has run
  processorEnvironments @15 :Data;       # UTF-8, one line each: names of the worker plugins and uploaded modules there; empty: there are none
}

struct TaskBatch {
  # C→S, S→A. All tasks of one batch share client, kind, depth, capabilities, serializer and flags.
  client @0 :Data;
  numbers @1 :Data;                      # U64
  attempts @2 :Data;                     # U16; empty on C→S
  functions @3 :Data;                    # table of function ids, 16 bytes each
  functionIndexes @4 :Data;              # U16 into `functions`; empty: all use the first
  payloadLengths @5 :Data;               # U32; bytes in frame 2: the arguments, see ARCHITECTURE.md "Payloads"
  depth @6 :UInt16;                      # nesting depth: 0 from applications, 1 from their tasks, …
  kind @7 :UInt8;                        # 0 call, 1 map chunk, 2 job result (C→S)
  flags @8 :UInt8;                       # bit 0 profile, bit 1 stream output, bit 2 announced again after a restart, bit 3 of a job (C→S)
  capabilities @9 :List(Capability);
  serializer @10 :Data;                  # function id of a custom serializer class; empty: the default
  objectPositions @11 :Data;             # sparse column: objects that the arguments name
  objects @12 :Data;                     # 16 bytes each
  inputPositions @13 :Data;              # sparse column: results of graph predecessors, bytes in frame 3
  inputLengths @14 :Data;                # U32
  inputSources @15 :Data;                # U32, one per input; empty: all inputs are in frame 3. n > 0: the input is the result of the task n rows before
  chainEnds @16 :Data;                   # U32, S→A: the rows before each end are a chain, which one processor runs in order; empty: there are no chains
  objectSizes @17 :Data;                 # U64, C→S: the bytes of each of `objects`, 0: not known; empty: none is known
  options @18 :Data;                     # C→S, S→A: options of the rows, to agents one record for all; empty: no row has any
  granted @19 :Text;                     # S→A: what each row has of the host's resources while it runs, as in "gpu=1,mem=8GiB"
  devices @20 :Text;                     # S→A: the GPUs that each row has, separated by commas
}

struct ResultBatch {
  # A→S, S→C. One result per task.
  client @0 :Data;
  numbers @1 :Data;                      # U64
  attempts @2 :Data;                     # U16
  statuses @3 :Data;                     # U8, see `Status`; empty: all succeeded
  payloadLengths @4 :Data;               # U32; bytes in frame 2
  durations @5 :Data;                    # U64, microseconds of wall time in the processor
  cpuTimes @6 :Data;                     # U64, microseconds; empty without profiling
  memoryPeaks @7 :Data;                  # U64, bytes; empty without profiling
  objectPositions @8 :Data;              # sparse column: results that are objects
  objects @9 :Data;                      # 16 bytes each
  capacity @10 :UInt32;                  # A→S: how many tasks the agent wants to hold now
  slots @11 :Data;                       # U16: which of the agent's workers ran the task; empty: unknown, or none
  objectBytes @12 :Data;                 # U64: bytes of the objects that the result names, all together; empty: no result names any
  readTimes @13 :Data;                   # U64, microseconds before the task: function and arguments fetched and restored; empty: under 1 ms each
  writeTimes @14 :Data;                  # U64, microseconds after the task: result serialized and written; empty: under 1 ms each

  enum Status {
    success @0;
    failed @1;                           # the function raised: payload is the exception
    canceled @2;
    processorDied @3;                    # from here on: payload is one UTF-8 sentence
    timedOut @4;
    workerDied @5;
    noWorker @6;
    missingObject @7;
    notRun @8;                           # the task was refused before it ran
    storageFailed @9;
    skipped @10;                         # A→S: a link of a chain whose predecessor has no result; it did not run
    limitExceeded @11;                   # it used up what one task may take on its worker's host; not tried again
    unreadable @12;                      # to the client: its payload cannot be read where it lies; it sends the task again
    retry @13;                           # A→S: the function raised, and the task's options ask for another attempt
    groupLimit @14;                      # as many tasks of its client's group wait as may; it was not queued
  }
}

struct FunctionDefine {
  # C→S, S→A: sent in a session before the first batch that names the functions.
  ids @0 :Data;                          # 16 bytes each
  lengths @1 :Data;                      # U32; bytes in frame 2
  client @2 :Data;                       # the client that uses them; an agent may forget them when this client is gone
  names @3 :List(Text);                  # one per id, for people: "module.qualname"; may be empty
  serializer @4 :Data;                   # function id of the client's serializer: the key of the ids' hash; empty: none
}

struct TaskList {
  client @0 :Data;
  numbers @1 :Data;                      # U64
  attempts @2 :Data;                     # U16; empty: any attempt
}

struct TaskCancel {
  client @0 :Data;
  numbers @1 :Data;                      # U64
  attempts @2 :Data;                     # U16; empty: any attempt
  waitingOnly @3 :UInt8;                 # 1: leave those that a worker has begun
}

struct Inventory {
  # A→S, first in a new session: the tasks that the agent holds, in one message for each client. Finished results follow as batches.
  client @0 :Data;
  numbers @1 :Data;                      # U64
  attempts @2 :Data;                     # U16
  states @3 :Data;                       # U8: 0 queued, 1 running
}

struct GrantsHeld {
  # A→S, first in a new session: the tasks here that have counted resources, one per row. Agents that offer none do not send it.
  clients @0 :Data;                      # 16 bytes each
  numbers @1 :Data;                      # U64
  attempts @2 :Data;                     # U16
  depths @3 :Data;                       # U16
  amounts @4 :List(Text);                # what the task asks for
  devices @5 :List(Text);                # its GPUs, separated by commas
  left @6 :Data;                         # U8: 1: its client is gone, and `grantsFreed` tells when the task is
}

struct GraphSubmit {
  # C→S: a portion of a graph, from `firstRow` on. Row i of the graph is task `firstNumber + i`. Payloads in frame 2, as in TaskBatch.
  client @0 :Data;
  firstNumber @1 :UInt64;
  functions @2 :Data;
  functionIndexes @3 :Data;              # U16; empty: all use the first
  payloadLengths @4 :Data;               # U32
  dependencyCounts @5 :Data;             # U32 per row
  dependencies @6 :Data;                 # U32: rows of the graph; the lists of all rows end to end. Input j of a row is the result of its j-th dependency.
  wanted @7 :Data;                       # U32: rows of this portion whose results the client wants
  capabilities @8 :List(Capability);
  serializer @9 :Data;
  flags @10 :UInt8;                      # as in TaskBatch
  depth @11 :UInt16;
  objectPositions @12 :Data;             # U32: rows of this portion
  objects @13 :Data;
  earlier @14 :Data;                     # U64: unanswered tasks of the same client. In `dependencies`, the number of rows + k stands for the k-th. What the scheduler
                                         # does not know any more it answers with SKIPPED: the client then sends the values.
  firstRow @15 :UInt32;                  # the portions come in order
  rowCount @16 :UInt32;                  # rows of the whole graph; 0: this portion is all of it
  objectSizes @17 :Data;                 # U64: as in TaskBatch
  options @18 :Data;                     # one record of options, which all rows have; empty: none
}

# `options` is UTF-8 JSON: an object with `records`, the different records of the rows, and, if there are several, `rows`: for
# each row its record's place. A record is an object; without a key the option is not set:
#
#   label   text, 1 to 100 characters
#   tags    object of text to text, at most 20 entries; a key has 1 to 100 characters, a value at most 200
#   retries             object: `times` (1 to 1000), `on` (full names of exception classes, 1 to 20), `wait_seconds`, `backoff` (from 1),
#                       `wait_max_seconds`: how often a task runs again that has raised one of these
#   timeout_seconds     number: how long one attempt may run
#   deadline_seconds    number, to the scheduler only: how long after it was submitted the task ends
#   priority            integer: higher ones go first among the tasks of one client and depth
#   idempotent          false: the task never runs twice
#   worker              text, to the scheduler only: the name of the only worker that may run the task
#   host                text, to the scheduler only: the name of the only host that may; in a list of one: of the host it prefers
#   resources           text: what each task needs of counted resources while it runs, as in "gpu=1,mem=8GiB"
#
# Beside `records`, tasks that are announced again may have: `waited`, a list with the seconds since each left first (one for a graph), and `failures`,
# an object of task number (as text) to [count of retries used, last attempt counted], as the scheduler told the client in results of status RETRY.



struct Notice {
  # S→C: information for people.
  level @0 :UInt8;                       # 0 info, 1 warning
  text @1 :Text;
  numbers @2 :Data;                      # U64: the tasks it is about; may be empty
  kind @3 :Text;                         # a word for programs, which does not change: "unservable", …
}

struct Output {
  # A→S→C: output of a task, in the order in which the task wrote it. Bytes in frame 2.
  client @0 :Data;
  number @1 :UInt64;
  stream @2 :UInt8;                      # 1 stdout, 2 stderr, 3 log records: one JSON object a line, with `logger`, `level`
                                         # (10 debug … 50 critical), `message`, `created` (Unix time), `file`, `line`,
                                         # `function`, `thread`, `pid` and, if there is one, `traceback`
  droppedBytes @3 :UInt64;               # bytes not sent, because the task wrote too many
}

struct ChunkFailures {
  # A→S: items of a map chunk failed. The chunk's result follows; it is a success that contains the failures. For monitors only.
  client @0 :Data;
  number @1 :UInt64;
  attempt @2 :UInt16;
  count @3 :UInt32;                      # of failed items. Frame 2: the failure of the first one, without its pickled part.
                                         # 0: the task itself failed, and its failure is too large for monitors; frame 2 is a short form
}

struct Relay {
  # A↔S: a message of a client inside a task of this agent. The other frames are that message with its envelope.
  client @0 :Data;
}

struct ObjectPut {
  # C→O, A→O. Frames 2…: the object's buffers, one frame each, as many as `lengths`.
  request @0 :UInt64;                    # repeated in the answer; a repeated request is answered again and not done again
  id @1 :Data;
  owner @2 :Data;                        # client incarnation; the object is deleted when this client ends
  lengths @3 :Data;                      # U64
  name @4 :Text;
  place @5 :Data;                        # where the buffers are in a segment of this host: pid and descriptor, U32 each, and the 16
                                         # bytes of its stamp; there are no payload frames then. Empty: the frames have the buffers
  incomplete @6 :Bool;                   # A→O on the agent's host: of its bytes the first `filled` are at `place`, the others come. Sent
  filled @7 :UInt64;                     # again as they do, then with request 0 and without place; in the end it is put as usual
}

struct ObjectReply {
  request @0 :UInt64;
  status @1 :UInt8;                      # 0 done, 1 refused: too large, 2 refused: storage full, 3 malformed, 4 not yours, 5 exists with other bytes,
                                         # 6 the segment cannot be opened, send the bytes, 7 the store that has the object
                                         # does not answer (the answer to a get: ObjectReply, as objectPutReply)
  text @2 :Text;
}

struct ObjectGet {
  request @0 :UInt64;
  id @1 :Data;
  waitSeconds @2 :Float64;               # how long to wait if the object has not arrived yet; 0: answer at once
  mappable @3 :Bool;                     # the peer is on the server's host and accepts a place instead of the bytes
  followsHomes @4 :Bool;                 # the peer accepts ObjectHomes instead of the bytes
  pieces @5 :Bool;                       # the peer accepts ObjectLayout instead of the bytes of a large object
  size @6 :UInt64;                       # not 0: answer with so many bytes of the object, as if its buffers were one
  offset @7 :UInt64;                     # where these begin
  keepsAt @8 :Text;                      # not empty: the peer fetches the object in pieces into a store at this address. The answer is
                                         # ObjectHomes, with the stores to fetch from, best first; the empty address: this server
}

struct ObjectData {
  request @0 :UInt64;
  id @1 :Data;
  missing @2 :Bool;
  lengths @3 :Data;                      # U64; frames 2…
  place @4 :Data;                        # as in ObjectPut
  mayCome @5 :Bool;                      # with missing: objects of clients are on their way here, maybe this one; ask again
  gone @6 :Bool;                         # with missing: its client has said that it will not come; do not ask again
}

struct ObjectDelete {
  # C→O, S→O
  request @0 :UInt64;                    # 0: the peer wants no answer
  owner @1 :Data;
  ids @2 :Data;                          # empty, from a scheduler: the owner has ended; delete all of its objects
}

struct ObjectBatch {
  # C↔O, A↔O. Several messages of one kind that left together, one row each. A receiver takes each row as that message.
  kind @0 :UInt8;                        # 0 objectPut with a place and without a name, 1 objectGet, 2 objectData, all with a place or
                                         # all with small buffers, 3 objectPutReply and 4 objectDeleteReply, both with status done
  requests @1 :Data;                     # U64
  ids @2 :Data;                          # of kinds 0 to 2
  owner @3 :Data;                        # of kind 0
  places @4 :Data;                       # of kinds 0 and 2, 24 bytes each
  waitSeconds @5 :Float64;               # these three: of kind 1
  mappable @6 :Bool;
  followsHomes @7 :Bool;
  pieces @8 :Bool;                       # likewise
  bufferCounts @9 :Data;                 # U32, of kind 2 without places: how many buffers each object has
  contentLengths @10 :Data;              # U32: these buffers, those of all objects end to end; bytes in frame 2
}

struct ObjectLayout {
  # O→A: an answer to ObjectGet, where pieces allows it: the object is large, and can be fetched in pieces.
  request @0 :UInt64;
  id @1 :Data;
  owner @2 :Data;                        # client incarnation
  lengths @3 :Data;                      # U64, of its buffers
}

struct ObjectsHeld {
  # A→O: these objects are in the store of the agent's host. The answer is objectPutReply.
  request @0 :UInt64;                    # 0: the peer wants no answer
  owner @1 :Data;                        # client incarnation; when it ends, or deletes them, O sends objectDelete to A
  ids @2 :Data;
  address @3 :Text;                      # of that store
  areCopies @4 :Bool;                    # refused for objects that O does not know any more
}

struct ObjectHomes {
  # O→A: an answer to ObjectGet, where followsHomes allows it.
  request @0 :UInt64;
  id @1 :Data;
  addresses @2 :List(Text);              # stores that have the object; at least one
}

struct ObjectWanted {
  # O→A: put this object, which the store of the agent's host has. Somebody asks for it who cannot get it there.
  id @0 :Data;
}

struct ObjectsGone {
  # A→O: the store of the agent's host does not have these objects, or has deleted them because O said so.
  # C→O, which it has not met before: these objects of mine were stored earlier, and I have no copy of them to send again.
  ids @0 :Data;
}

struct ClientsKnown {
  # S→O, before a hello: all the clients whose end S will tell. It replaces what S said before.
  clients @0 :Data;
  everybody @1 :Bool;                    # and all others: A says so at the store of its host, as another O tells it of their end
}

struct ObjectsLost {
  # O→S: no store has these objects any more, or none that can be reached. Their owners have not deleted them.
  host @0 :Text;                         # the worker host whose store had them last; for people
  ids @1 :Data;
}

struct StoreStatus {
  request @0 :UInt64;
  objectCount @1 :UInt64;
  usedBytes @2 :UInt64;                  # in memory; equal contents count once
  limitBytes @3 :UInt64;
  owners @4 :Data;                       # client incarnations that own objects, 16 bytes each
  ownerObjects @5 :Data;                 # U64: objects of each
  ownerBytes @6 :Data;                   # U64: bytes of each; contents that several objects share count for every one of them
  objects @7 :List(StoredObjectStatus);        # the largest ones, at most 100
}

struct ObjectListRequest {
  # S→O: objects in some order. One objectList answers it.
  request @0 :UInt64;
  offset @1 :UInt64;                     # how many objects of that order are left out
  order @2 :UInt8;                       # 0 size, 1 age, 2 name, 3 owner, 4 place, 5 waiting readers, 6 number of hosts that have it too
  descending @3 :Bool;
  owner @4 :Data;                        # only objects of this client; empty: of any
  words @5 :Text;                        # only objects whose names have all these words, in any case
}

struct ObjectList {
  # O→S, and S to the monitors that have subscribed to it.
  request @0 :UInt64;
  offset @1 :UInt64;                     # how many objects come before these
  matching @2 :UInt64;                   # objects that are asked for, of those that were looked at
  lookedAt @3 :UInt64;                   # where there are very many objects, only the oldest are looked at
  objects @4 :List(StoredObjectStatus);  # at most 100
}

struct StoredObjectStatus {
  # One object in storage.
  id @0 :Data;
  owner @1 :Data;
  name @2 :Text;
  sizeBytes @3 :UInt64;
  ageSeconds @4 :Float64;                # ago
  place @5 :Text;                        # "memory", "shared memory" or "disk"
  readersWaiting @6 :UInt32;             # requests that wait until it is read from the disk
  tasks @7 :Int64 = -1;                  # unfinished tasks that name it, which the scheduler counts; -1: not counted
  homes @8 :List(Text);                  # hosts whose own stores have it too
}

# Monitor streams. On the monitor socket the envelope is the topic; its `epoch` names the stream. ZeroMQ compares the
# beginning of the first frame, so a subscriber gets only the streams it subscribed to. The scheduler collects only
# what somebody has subscribed to:
#
#   0  figures: MonitorSnapshot, MonitorFailures, MonitorLog. All other fields are 0.
#   1  events: MonitorEvents. All other fields are 0.
#   2  dump: MonitorDump, about once a second while somebody subscribes. `sequence` is the number of a task whose whole
#      record the dump should contain, or 0.
#   3  output: MonitorOutput, every few seconds while somebody subscribes. `acknowledged` says what of: 0 a task, whose number is
#      `sequence`; 1 the log of an agent. Behind the envelope follow the 16 bytes of the task's client (zeros: any), or of the agent.
#   4  profile: MonitorProfile, about once a second while it is taken and for some seconds after that. `sequence` is a
#      number that the monitor chooses, `acknowledged` how often a second is sampled, `flags` for how many seconds.
#   5  graph: MonitorGraph, about once a second while somebody subscribes, less often for large graphs. `sequence` is the
#      number of its first task, `acknowledged` and `flags` the halves of its client's incarnation (little endian).
#   6  objects: ObjectList, about once a second while somebody subscribes. `sequence`, `acknowledged` and `flags` are `offset`, `order`
#      and `descending` of the request. Behind the envelope follow the 16 bytes of the owner (zeros: any), and the words.

struct MonitorSnapshot {
  # About once a second while somebody subscribes.
  sequence @0 :UInt64;                   # counts snapshots: a gap means lost messages
  timeSeconds @1 :Float64;               # Unix time
  incarnation @2 :Data;
  cpuPercent @3 :Float32;
  rssBytes @4 :UInt64;
  taskStates @5 :List(Counter);          # unassigned, running, success, failed, canceled
  sent @6 :List(Counter);                # messages by kind since the scheduler started
  received @7 :List(Counter);
  workers @8 :List(WorkerStatus);
  clients @9 :List(ClientStatus);
  functions @10 :List(Counter);          # unfinished tasks by function name
  objectCount @11 :UInt64;
  objectBytes @12 :UInt64;               # memory that object storage uses
  objectLimitBytes @13 :UInt64;          # 0: unknown
  agents @14 :List(AgentStatus);
  graphs @15 :List(GraphStatus);         # unfinished ones, at most 1,000
  adapters @16 :List(AdapterStatus);
  startedSeconds @17 :Float64;           # Unix time at which the scheduler started
  staleResults @18 :UInt64;              # results dropped because their task was answered, cancelled or given to another agent
  scalingStrategy @19 :Text;             # empty: none
  eventsOmitted @20 :UInt64;             # task events left out of the events stream since the scheduler started
  failedFunctions @21 :List(Counter);    # failed tasks by function name
  failedItems @22 :UInt64;               # failed items of map chunks since the scheduler started; their tasks count as successes
  objects @23 :List(StoredObjectStatus);       # the largest ones in object storage, at most 100
  clientNames @24 :List(Tally);          # tasks by the name given to their client, at most 201; clients without one share the empty name
  labels @25 :List(Tally);               # tasks by label, at most 201; tasks without one are not in it
  groups @26 :List(GroupStatus);         # groups of clients with shares; empty: the scheduler has none
  standby @27 :Bool;                     # the scheduler is the standby of another one, and accepts no peers
  progress @28 :List(ProgressStatus);    # running tasks that have said how far they are, at most 1,000: those that spoke last
  jobs @29 :List(JobStatus);             # at most 1,000: those that changed last
  jobCount @30 :UInt64;
  schedulerAddress @31 :Text;            # where clients connect; a wildcard stands for the host of the monitor address
  protected @32 :Bool;                   # nobody may cancel tasks of others, or shut the cluster down
  scalingEvents @33 :List(ScalingEvent); # the last 100
  endedGraphs @34 :List(GraphStatus);    # those that ended last, at most 50
  resourceWaits @35 :List(ResourceWait); # ready tasks that wait for counted resources, at most 100

  struct Counter { name @0 :Text; count @1 :UInt64; }

  struct Tally {
    name @0 :Text;                       # "(other)" stands for all that had no place any more
    unfinished @1 :UInt64;
    succeeded @2 :UInt64;                # these two since the scheduler started
    failed @3 :UInt64;
  }

  struct WorkerStatus {
    name @0 :Text;
    agent @1 :Text;
    hostname @2 :Text;
    pid @3 :UInt32;
    state @4 :UInt8;
    agentCpuPercent @5 :Float32;
    agentRssBytes @6 :UInt64;
    cpuPercent @7 :Float32;
    rssBytes @8 :UInt64;
    rssFreeBytes @9 :UInt64;
    free @10 :UInt32;                    # how many more tasks it would accept
    sent @11 :UInt32;                    # assigned tasks without a result
    queued @12 :UInt32;                  # how many of these have not started
    capabilities @13 :Text;
    latencySeconds @14 :Float64;
    lastSeenSeconds @15 :Float64;        # ago
    task @16 :UInt64;                    # number of the running task, if `function` is not empty
    function @17 :Text;
    taskSeconds @18 :Float64;            # how long it has run
    environment @19 :Text;               # worker plugins and uploaded modules there, for people; empty: none
  }

  struct AgentStatus {
    name @0 :Text;
    hostname @1 :Text;
    pid @2 :UInt32;
    workers @3 :UInt32;
    capacity @4 :UInt32;                 # how many tasks it wants to hold now
    assigned @5 :UInt32;
    queued @6 :UInt32;                   # how many of these have not started
    cpuPercent @7 :Float32;              # of the agent's own process
    rssBytes @8 :UInt64;
    rssFreeBytes @9 :UInt64;             # free memory of its host
    latencySeconds @10 :Float64;
    lastSeenSeconds @11 :Float64;
    draining @12 :Bool;
    capabilities @13 :Text;
    functions @14 :List(Counter);        # assigned tasks by function name
    incarnation @15 :Data;
    resources @16 :Text;                 # what its host offers: "cores=8,gpu=2"
    resourcesUsed @17 :Text;             # what of this its tasks are using
    devices @18 :List(Text);             # the GPUs of its host
    softwareVersion @19 :Text;
    pythonVersion @20 :Text;             # "3.11"
    memoryBytes @21 :UInt64;             # of its host or container; 0: not known
    processorLimitBytes @22 :UInt64;     # what one of its processors may use of it; 0: no limit
  }

  struct ClientStatus {
    name @0 :Text;
    incarnation @1 :Data;
    hostname @2 :Text;
    pid @3 :UInt32;
    waiting @4 :UInt64;
    running @5 :UInt64;
    finished @6 :UInt64;
    failed @7 :UInt64;
    lastSeenSeconds @8 :Float64;
    nested @9 :Bool;                     # it is inside a task
    graphs @10 :UInt32;
    objectCount @11 :UInt64;
    objectBytes @12 :UInt64;
    connectedSeconds @13 :Float64;       # ago
    failedItems @14 :UInt64;             # failed items of map chunks
    parent @15 :Data;                    # nested: the client for which it works, 16 bytes; empty: not known
    parentName @16 :Text;                # nested: the name of that client
    group @17 :Text;                     # the group whose share its tasks count against; empty: the scheduler has no groups
    user @18 :Text;                      # who runs it; empty: not known
    usedSeconds @19 :Float64;            # core seconds that its tasks have used, since a monitor began to listen to task events
    busyWorkers @20 :UInt32;             # workers that run its tasks now
    waitingForTasks @21 :UInt64;         # of those that wait: for the results of others
  }

  struct ScalingEvent {
    # One thing that happened while workers were started or stopped.
    number @0 :UInt64;                   # counts the scheduler's events, from 1
    timeSeconds @1 :Float64;             # Unix time
    kind @2 :Text;                       # "requested", "connected", "refused", "leaving", "ended" or "failed"
    adapter @3 :Text;
    groups @4 :UInt32;                   # how many worker groups it was about
    reason @5 :Text;                     # for people
  }

  struct GroupStatus {
    name @0 :Text;
    weight @1 :Float64;                  # its share is this, of the sum of the weights of all groups with waiting tasks
    clients @2 :UInt32;
    waiting @3 :UInt64;
    running @4 :UInt64;                  # tasks assigned to agents
    usedSeconds @5 :Float64;             # core seconds of its tasks that have ended since the scheduler started
    maxRunning @6 :UInt64;               # 0: no limit
    maxWaiting @7 :UInt64;               # 0: no limit
    refused @8 :UInt64;                  # tasks refused because of maxWaiting
  }

  struct GraphStatus {
    client @0 :Data;
    firstNumber @1 :UInt64;
    rows @2 :UInt64;
    waiting @3 :UInt64;                  # rows that wait for other rows
    released @4 :UInt64;                 # rows that are queued or assigned
    done @5 :UInt64;
    failed @6 :UInt64;
    heldResults @7 :UInt64;              # results kept because other rows will read them
    beganSeconds @8 :Float64;            # Unix time; 0: not known
    endedSeconds @9 :Float64;            # Unix time; 0: it has not ended
  }

  struct AdapterStatus {
    # One worker adapter.
    url @0 :Text;
    state @1 :Text;                      # one word: "ok", "unreachable", …
    groups @2 :UInt32;                   # groups that exist
    groupsMax @3 :Int32;                 # -1: no limit
    workersPerGroup @4 :UInt32;
    requestedGroups @5 :UInt32;          # groups that scaling wants now
    startingGroups @6 :UInt32;           # groups that have been asked for and do not exist yet
    capabilities @7 :Text;
    text @8 :Text;                       # the last error, for people; empty: none
  }

  struct ProgressStatus {
    client @0 :Data;
    number @1 :UInt64;
    done @2 :Float64;
    total @3 :Float64;                   # -1: the task has not said
    note @4 :Text;
    ageSeconds @5 :Float64;              # since the task said so
    function @6 :Text;
    agent @7 :Text;
  }

  struct JobStatus {
    name @0 :Text;
    owner @1 :Text;                      # the name of the client that made it
    client @2 :Data;                     # under which its tasks are shown
    waiting @3 :UInt64;
    running @4 :UInt64;
    done @5 :UInt64;
    failed @6 :UInt64;
    canceled @7 :UInt64;
    lost @8 :UInt64;                     # tasks whose result is lost
    sizeBytes @9 :UInt64;                # arguments and results that the scheduler keeps
    closed @10 :Bool;                    # it takes no other tasks any more
    startedSeconds @11 :Float64;         # Unix time
    expiresSeconds @12 :Float64;         # Unix time; -1: not before its tasks have ended
    notice @13 :Text;                    # why tasks of it cannot run, for people; empty: nothing is known
  }

  struct ResourceWait {
    resources @0 :Text;                  # what each of the tasks asks for, as in licence=1,mem=8GiB
    count @1 :UInt64;                    # how many wait for that
    offered @2 :Bool;                    # a connected host has as much, and other tasks use it; false: none has
  }
}

struct MonitorEvents {
  # Changes of tasks' states, one per row. If there are too many, only tasks whose number is a multiple of `stride` are
  # in it.
  sequence @0 :UInt64;                   # counts these messages: a gap means lost messages
  timeSeconds @1 :Data;                  # F64, Unix time at the scheduler
  clients @2 :Data;                      # U16 into clientTable
  clientTable @3 :Data;                  # 16 bytes each
  numbers @4 :Data;                      # U64
  states @5 :Data;                       # U8: 0 submitted, 1 assigned, 2 success, 3 failed, 4 canceled, 5 returned
  workers @6 :Data;                      # U16 into workerTable; 65535: none
  workerTable @7 :List(Text);            # agents
  functions @8 :Data;                    # U16 into functionTable
  functionTable @9 :List(Text);
  durations @10 :Data;                   # U64, microseconds, of finished tasks; of returned ones that failed by themselves and run again: how long they wait before
  dropped @11 :UInt64;                   # events left out since the last message
  slots @12 :Data;                       # U16: which of the agent's workers ran the task; 65535: unknown
  stride @13 :UInt32;                    # 1: every task is in it
  incarnation @14 :Data;
  capabilities @15 :Data;                # U16 into capabilityTable, per row
  capabilityTable @16 :List(Text);       # what tasks ask for, as in "gpu,linux"; may contain the empty text
  notes @17 :Data;                       # U16 into labelTable and tagTable, per row; empty: no row has a label or tags
  labelTable @18 :List(Text);            # may contain the empty text
  tagTable @19 :List(Text);              # as in "desk=rates,run=17"; may contain the empty text
  resources @20 :Data;                   # U16 into resourceTable, per row; empty: no submitted task asks for any
  resourceTable @21 :List(Text);         # what submitted tasks ask for, as in "licence=1,mem=8GiB"; may contain the empty text
  readTimes @22 :Data;                   # U64, as in ResultBatch; empty: no row has any
  writeTimes @23 :Data;                  # U64, as in ResultBatch; empty: no row has any
}

struct MonitorFailures {
  # Tasks that failed, with the answer that their client got. The last ones are sent again when a monitor joins.
  incarnation @0 :Data;
  firstNumber @1 :UInt64;                # number of the first row; failures are counted from 1
  timeSeconds @2 :Data;                  # F64
  clients @3 :Data;                      # 16 bytes each
  numbers @4 :Data;                      # U64
  attempts @5 :Data;                     # U16
  statuses @6 :Data;                     # U8
  functions @7 :List(Text);
  workers @8 :List(Text);                # agents
  durations @9 :Data;                    # U64, microseconds
  payloadLengths @10 :Data;              # U32; bytes in frame 2: the answer's payload; empty if it was too large to keep
  items @11 :Data;                       # U32: failed items of a map chunk, whose first failure is the payload; 0: the task itself failed
  labels @12 :List(Text);                # empty: no row has any; likewise tags
  tags @13 :List(Text);                  # as in MonitorEvents
}

struct MonitorLog {
  # Log lines of the scheduler. The last ones are sent again when a monitor joins.
  incarnation @0 :Data;
  firstNumber @1 :UInt64;                # number of the first row; lines are counted from 1
  timeSeconds @2 :Data;                  # F64
  levels @3 :Data;                       # U8, as in Python's logging: 10 debug … 50 critical
  texts @4 :List(Text);
}

struct MonitorDump {
  # The scheduler's tables at one moment, for looking into a problem.
  timeSeconds @0 :Float64;
  json @1 :Text;
}

struct OutputRequest {
  # S→A: what was kept of a task's output, or of the agent's own log? A monitor asks.
  request @0 :UInt64;
  number @1 :UInt64;                     # of the task; 0: the log of the agent
  client @2 :Data;                       # that submitted the task; empty: tasks of any client
}

struct OutputReply {
  # A→S. Frame 2: a JSON object, empty where there is nothing.
  request @0 :UInt64;
}

struct MonitorOutput {
  # What agents have kept of a task's output, or the log of one of them.
  timeSeconds @0 :Float64;
  number @1 :UInt64;                     # of the task; 0: this is the log of an agent
  subject @2 :Data;                      # 16 bytes: the client that submitted the task (zeros: any), or the agent
  agents @3 :List(Text);                 # names of those that had some of it, one per row
  payloadLengths @4 :Data;               # U32; bytes in frame 2: the JSON object of each
  asked @5 :UInt32;                      # agents that were asked
  silent @6 :List(Text);                 # names of those that did not answer in time, at most 16
  omitted @7 :UInt32;                    # answers left out, as all together were too large
}

struct MonitorGraph {
  # The rows of an unfinished graph, for monitors that draw it: the first 50,000, with at most 150,000 dependencies.
  timeSeconds @0 :Float64;
  incarnation @1 :Data;
  client @2 :Data;
  firstNumber @3 :UInt64;                # task number of row 0
  rowCount @4 :UInt64;                   # rows of the whole graph
  states @5 :Data;                       # U8: 0 waiting, 1 queued or assigned, 2 done, 3 failed
  functions @6 :Data;                    # U16 into functionTable
  dependencyEnds @7 :Data;               # U64: where each row's part of `dependencies` ends
  dependencies @8 :Data;                 # U32: rows, perhaps some that are not here
  functionTable @9 :List(Text);
}

struct WorkerList {
  # S→C: the workers that are connected and stay, one per row.
  agents @0 :Data;                       # 16 bytes each: the incarnation of the worker's agent
  slots @1 :Data;                        # U16: its number at its agent, from 0
  names @2 :List(Text);                  # workers of several agents may have the same name
}

struct JobRequest {
  # C→S. A job is a set of tasks that outlives its client.
  request @0 :UInt64;
  action @1 :Text;                       # "open", "close", "list", "status", "cancel", "forget"
  name @2 :Text;
  keepSeconds @3 :Float64;               # with "open"; 0: the scheduler's setting
}

struct JobReply {
  # S→C
  request @0 :UInt64;
  error @1 :Text;                        # empty: none
  kind @2 :Text;                         # with an error: "unknown", "other_owner", "refused"
  json @3 :Text;                         # a list of objects, one for each job
}

struct LockRequest {
  # C→S: hold a named lock or semaphore, or wait for it. A lockAnswer follows when it is held, or refused.
  lease @0 :UInt64;                      # the client's number for this hold; it uses each once
  name @1 :Text;
  count @2 :UInt32;                      # how many may hold it at once: 1 for a lock
  held @3 :Bool;                         # the client held it in the session before, which the scheduler does not know
}

struct LockAnswer {
  # S→C: what has become of a lease.
  lease @0 :UInt64;
  state @1 :UInt8;                       # 0 held, 1 released, 2 lost: it had ended before, 3 refused
  text @2 :Text;                         # why it was refused
}

struct TaskProgress {
  # A→S→C: how far a running task says that it is. Only the newest counts, and it may be lost.
  client @0 :Data;
  number @1 :UInt64;
  done @2 :Float64;                      # 0 or more
  total @3 :Float64;                     # 0 or more; -1: the task has not said
  note @4 :Text;                         # for people
}

struct CancelRequest {
  # C→S, from operators: cancel tasks of others, those that fit everything that is named here. A cancelReply follows.
  request @0 :UInt64;                    # the answer has the same number
  owner @1 :Data;                        # the client whose tasks, 16 bytes; empty: any client's
  numbers @2 :Data;                      # U64: only the owner's tasks of these numbers; empty: of all
  function @3 :Text;                     # only tasks of functions of this name; empty: of any
  label @4 :Text;                        # only tasks of this label; empty: of any
}

struct CancelReply {
  # S→C
  request @0 :UInt64;
  count @1 :UInt64;                      # tasks that were cancelled, or told to stop
  error @2 :Text;                        # why none was; empty: it was done
}

struct ProfileRequest {
  # S→A: sample what processors run, and send `profileSamples` about once a second. Each request replaces the one before.
  seconds @0 :Float64;                   # for how long from now; 0: no longer
  rate @1 :UInt32;                       # samples a second
  nodes @2 :UInt32;                      # about how many nodes each message may have
}

struct ProfileSamples {
  # A→S: calls that processors were in, since the last of these messages. A node is a call under its caller; see MonitorProfile.
  processors @0 :UInt32;                 # how many have reported
  samples @1 :UInt64;
  costMicroseconds @2 :UInt64;           # processor time that sampling took
  parents @3 :Data;                      # U32; 0: a root, whose name is the id of a task's function in hexadecimal digits
  names @4 :Data;                        # U32
  files @5 :Data;                        # U32
  lines @6 :Data;                        # U32
  microseconds @7 :Data;                 # U64
  texts @8 :List(Text);
}

struct MonitorProfile {
  # What workers have run since a profile began, as a tree of calls. One row per node; callers come before what they call.
  token @0 :UInt64;                      # these three as in the topic
  rate @1 :UInt32;
  seconds @2 :UInt32;
  elapsedSeconds @3 :Float64;
  done @4 :Bool;                         # nothing is added any more
  agents @5 :UInt32;                     # how many were asked
  answered @6 :UInt32;                   # how many of these have sent samples, or that there are none
  processors @7 :UInt32;                 # the largest number of processors that have reported within a second
  samples @8 :UInt64;
  costMicroseconds @9 :UInt64;           # processor time that sampling took on all workers
  parents @10 :Data;                     # U32: the caller's row + 1; 0: a root, whose name is that of a task's function
  names @11 :Data;                       # U32 into texts: the function; the empty text: a line of the caller
  files @12 :Data;                       # U32 into texts
  lines @13 :Data;                       # U32: where the function begins
  microseconds @14 :Data;                # U64: time in the node itself, without what it called
  texts @15 :List(Text);
}
