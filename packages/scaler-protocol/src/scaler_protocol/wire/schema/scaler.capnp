@0xc3b1d5a0f2e94711;

# The Scaler wire protocol, version 1.
#
# One message is a list of ZeroMQ frames:
#
#   frame 0   an `Envelope`: who has sent and seen what (48 bytes, always)
#   frame 1   a `Message`: the header, a Cap'n Proto message in the standard (unpacked) stream framing
#   frame 2…  payload bytes, as many frames as the header's kind says; never interpreted by scheduler or object store
#
# Batches are columnar. A column is a `Data` that holds a packed little-endian array, one element per task:
# U8, U16, U32 or U64, named in the comment. A column that would be the same for all tasks may be empty; the
# comment says what empty means. Variable-length bytes are two things: a U32 column of lengths in the header, and the
# bytes of all tasks, end to end, in one payload frame. A *sparse* column is a pair: `…Positions` (U32: which row of
# the batch) and the values; one row may occur several times, in order, or not at all.
#
# Ids: a client, an agent and a scheduler process are each known by 16 random bytes, their *incarnation*. A task is
# (client incarnation, number), numbers being chosen by the client, each used once. A function or an object is 16 bytes.
#
# Peers talk DEALER to ROUTER. Scheduler sockets serve clients and agents alike; the object storage server has its own.
# Roads: C client, A agent, S scheduler, O object storage server, M monitor subscriber.

struct Envelope {
  # Session rules (see ARCHITECTURE.md, "Sessions"). Fixed size, so it may be written without a Cap'n Proto library:
  # 16 constant bytes (00000000 05000000 00000000 04000000), then the four fields.
  sequence @0 :UInt64;         # number of the last sequenced message sent in this session, this one included
  acknowledged @1 :UInt64;     # number of the last sequenced message received in order
  flags @2 :UInt64;            # bit 0: this message is itself sequenced; bit 1: "resend everything after `acknowledged`"
  epoch @3 :UInt64;            # hello number with which this session began; envelopes of another epoch are dropped
}

struct Message {
  union {
    hello @0 :Hello;
    welcome @1 :Welcome;
    refused @2 :Text;                    # S→any: why, in one sentence. Nothing of this session was started.
    unknownPeer @3 :Void;                # S→any: no session with you; say hello
    heartbeat @4 :Heartbeat;
    goodbye @5 :Text;                    # any→any: this session ends now; the reason, for people
    taskBatch @6 :TaskBatch;
    resultBatch @7 :ResultBatch;
    functionDefine @8 :FunctionDefine;
    taskCancel @9 :TaskList;             # C→S, S→A
    taskRecall @10 :UInt32;              # S→A: give back up to so many tasks that have not started
    taskReturn @11 :TaskList;            # A→S: given back, not started
    inventory @12 :Inventory;
    graphSubmit @13 :GraphSubmit;
    clientGone @14 :Data;                # S→A, A→S, S→O: this client incarnation has ended; drop what is its
    creditRequest @15 :UInt32;           # C→S: I have so many tasks that wait for permission
    creditGrant @16 :UInt32;             # S→C: you may submit so many more
    shutdown @17 :Text;                  # C→S: stop the cluster. S→A, S→O: stop. Text is the reason.
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
    drain @28 :Void;                     # A→S: give me nothing more, I am about to leave. S→A: finish and leave.
    objectDeleteReply @29 :ObjectReply;
    storeStatusRequest @30 :UInt64;      # S→O: how much do you hold? The number is echoed.
    storeStatus @31 :StoreStatus;        # O→S
    monitorFailures @32 :MonitorFailures;
    monitorLog @33 :MonitorLog;
    monitorDump @34 :MonitorDump;
    chunkFailures @35 :ChunkFailures;
  }
}

struct Capability {
  name @0 :Text;
  value @1 :Int64;                       # -1 when none was given; carried and shown, not counted
}

struct Hello {
  # First message of every peer, and again whenever it doubts that the session lives.
  role @0 :Role;
  protocolVersion @1 :UInt16;            # must equal the scheduler's
  pythonVersion @2 :Text;                # "3.11"; must be the same for clients and agents of one scheduler
  softwareVersion @3 :Text;
  name @4 :Text;                         # stable, for people
  incarnation @5 :Data;                  # 16 bytes
  hostname @6 :Text;
  pid @7 :UInt32;
  schedulerIncarnation @8 :Data;         # of the session to resume; empty for a new one
  workerNames @9 :List(Text);            # agents: one per slot
  capabilities @10 :List(Capability);    # agents: of each of their workers
  capacity @11 :UInt32;                  # agents: tasks they want to hold at first
  queueLimit @12 :UInt32;                # agents: tasks they ever accept per worker
  streamOutput @13 :Bool;                # clients: send me what my tasks print
  timeoutSeconds @14 :Float64;           # silence after which the scheduler may give this peer up; 0: its own setting
  helloNumber @15 :UInt32;               # counts this peer's hellos; the answer names it, so that late answers are told apart
  takesChains @16 :Bool;                 # agents: batches may have chains
  toObjectStorage @17 :Bool;             # whom it takes the other end for; false: for a scheduler

  enum Role { client @0; agent @1; scheduler @2; monitor @3; }
}

struct Welcome {
  incarnation @0 :Data;                  # the scheduler's, 16 bytes
  resumed @1 :Bool;                      # false: new session, counters start at 0, announce what you hold
  objectStorageAddress @2 :Text;         # empty: none
  monitorAddress @3 :Text;
  heartbeatSeconds @4 :Float64;          # say something at least this often
  timeoutSeconds @5 :Float64;            # silence after which the scheduler gives you up
  protected @6 :Bool;
  taskCredit @7 :Int64;                  # clients: tasks that may be submitted without asking; -1: no limit
  protocolVersion @8 :UInt16;
  softwareVersion @9 :Text;
  capabilityPolicy @10 :Bool;            # whether capabilities are enforced
  helloNumber @11 :UInt32;               # of the hello this answers
  segmentOffer @12 :Data;                # O→any: pid and descriptor, U32 each, of the file that proves to be on its host; empty: none
  endsCluster @13 :Bool;                 # nobody comes after this scheduler: when it ends, or its connection does, wait for none
}

struct Heartbeat {
  # Any direction. A column has one element per worker of the agent; all are empty from clients and the scheduler.
  sentAtSeconds @0 :Float64;             # sender's clock; echoed back unchanged by the scheduler in `echoSeconds`
  echoSeconds @1 :Float64;
  capacity @2 :UInt32;                   # agents: tasks wanted in all (assigned and running), now
  cpuPercent @3 :Float32;                # of the sending process
  rssBytes @4 :UInt64;
  rssFreeBytes @5 :UInt64;               # left on its host
  queued @6 :UInt32;                     # agents: tasks held, not started
  latencySeconds @7 :Float64;            # last measured round trip
  processorPids @8 :Data;                # U32
  processorCpuPercents @9 :Data;         # U16, tenths of a percent
  processorRssBytes @10 :Data;           # U64
  processorStates @11 :Data;             # U8: 0 starting, 1 idle, 2 running, 3 blocked on a nested task, 4 stopping
  processorTasks @12 :Data;              # U64: number of the task that runs there; means nothing where none runs
  processorFunctions @13 :Data;          # 16 bytes each: its function; zeros where none runs
  processorMilliseconds @14 :Data;       # U32: since it began
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
  kind @7 :UInt8;                        # 0 call, 1 map chunk
  flags @8 :UInt8;                       # bit 0 profile, bit 1 stream output, bit 2 announced again after a restart
  capabilities @9 :List(Capability);
  serializer @10 :Data;                  # function id of a custom serializer class; empty: the default
  objectPositions @11 :Data;             # sparse column: objects the arguments name
  objects @12 :Data;                     # 16 bytes each
  inputPositions @13 :Data;              # sparse column: results of graph predecessors, bytes in frame 3
  inputLengths @14 :Data;                # U32
  inputSources @15 :Data;                # U32, one per input; empty: all inputs are in frame 3. n > 0: the result of the task n rows before, length 0
  chainEnds @16 :Data;                   # U32, S→A: the rows before each of these are a chain, to be run in order by one processor; empty: all stand alone
}

struct ResultBatch {
  # A→S, S→C. One result per task.
  client @0 :Data;
  numbers @1 :Data;                      # U64
  attempts @2 :Data;                     # U16
  statuses @3 :Data;                     # U8, see `Status`; empty: all succeeded
  payloadLengths @4 :Data;               # U32; bytes in frame 2
  durations @5 :Data;                    # U32, microseconds of wall time in the processor
  cpuTimes @6 :Data;                     # U32, microseconds; empty without profiling
  memoryPeaks @7 :Data;                  # U64, bytes; empty without profiling
  objectPositions @8 :Data;              # sparse column: results that are objects
  objects @9 :Data;                      # 16 bytes each
  capacity @10 :UInt32;                  # A→S: tasks this agent wants in all, now
  slots @11 :Data;                       # U16: which of the agent's workers ran it; empty: none did, or not known

  enum Status {
    success @0;
    failed @1;                           # the function raised: payload is the exception
    canceled @2;
    processorDied @3;                    # from here on: payload is one UTF-8 sentence
    timedOut @4;
    workerDied @5;
    noWorker @6;
    missingObject @7;
    notRun @8;                           # refused before it ran
    storageFailed @9;
    skipped @10;                         # A→S: a link of a chain whose predecessor has no result; it did not run
  }
}

struct FunctionDefine {
  # C→S, S→A: before the first batch of a session that names them.
  ids @0 :Data;                          # 16 bytes each
  lengths @1 :Data;                      # U32; bytes in frame 2
  client @2 :Data;                       # who needs it; an agent may forget it when this client is gone
  names @3 :List(Text);                  # one per id, for people: "module.qualname"; may be empty
}

struct TaskList {
  client @0 :Data;
  numbers @1 :Data;                      # U64
  attempts @2 :Data;                     # U16; empty where it does not matter
}

struct Inventory {
  # A→S, first thing in a new session: what this agent holds. One message per client whose tasks it holds. Finished results follow as batches.
  client @0 :Data;
  numbers @1 :Data;                      # U64
  attempts @2 :Data;                     # U16
  states @3 :Data;                       # U8: 0 queued, 1 running
}

struct GraphSubmit {
  # C→S: a whole graph. Row i is task `firstNumber + i`. Payloads in frame 2, as in TaskBatch.
  client @0 :Data;
  firstNumber @1 :UInt64;
  functions @2 :Data;
  functionIndexes @3 :Data;              # U16; empty: all use the first
  payloadLengths @4 :Data;               # U32
  dependencyCounts @5 :Data;             # U32 per row
  dependencies @6 :Data;                 # U32: rows; all rows' lists end to end. Input j of a row is its j-th dependency.
  wanted @7 :Data;                       # U32: rows whose results the client wants
  capabilities @8 :List(Capability);
  serializer @9 :Data;
  flags @10 :UInt8;                      # as in TaskBatch
  depth @11 :UInt16;
  objectPositions @12 :Data;
  objects @13 :Data;
}

struct Notice {
  # S→C: something people should know, not an answer.
  level @0 :UInt8;                       # 0 info, 1 warning
  text @1 :Text;
  numbers @2 :Data;                      # U64: the tasks concerned, possibly none
  kind @3 :Text;                         # stable word for programs: "unservable", …
}

struct Output {
  # A→S→C: what a task wrote, in the order in which it wrote it. Bytes in frame 2.
  client @0 :Data;
  number @1 :UInt64;
  stream @2 :UInt8;                      # 1 stdout, 2 stderr, 3 log records: one JSON object a line, with `logger`, `level`
                                         # (10 debug … 50 critical), `message`, `created` (Unix time), `file`, `line`,
                                         # `function`, `thread`, `pid` and, where there is one, `traceback`
  droppedBytes @3 :UInt64;               # not sent, because over the budget
}

struct ChunkFailures {
  # A→S: items of this map chunk failed; its result, which follows, is a success that holds their failures. For monitors only.
  client @0 :Data;
  number @1 :UInt64;
  attempt @2 :UInt16;
  count @3 :UInt32;                      # of failed items. Frame 2: the failure of the first, without what is pickled in it
                                         # 0: the task itself failed, with more than is kept for monitors; frame 2 is cut
}

struct Relay {
  # A↔S: messages of a client that lives inside a task of this agent. The remaining frames are that message, envelope included.
  client @0 :Data;
}

struct ObjectPut {
  # C→O, A→O. Frames 2…: the object's buffers, one frame each, as many as `lengths`.
  request @0 :UInt64;                    # echoed in the answer; a repeated request is answered again, not done again
  id @1 :Data;
  owner @2 :Data;                        # client incarnation with which the object ends
  lengths @3 :Data;                      # U64
  name @4 :Text;
  place @5 :Data;                        # the buffers are in a segment of this host, and no frames here: pid and descriptor, U32 each,
                                         # and the 16 bytes stamped on it; empty: frames
}

struct ObjectReply {
  request @0 :UInt64;
  status @1 :UInt8;                      # 0 done, 1 refused: too large, 2 refused: storage full, 3 malformed, 4 not yours, 5 exists with other bytes,
                                         # 6 nothing at its place, send the bytes
  text @2 :Text;
}

struct ObjectGet {
  request @0 :UInt64;
  id @1 :Data;
  waitSeconds @2 :Float64;               # how long to wait for an object that has not arrived yet; 0: answer now
  mappable @3 :Bool;                     # a place will do, if it is in a segment: we are on your host
}

struct ObjectData {
  request @0 :UInt64;
  id @1 :Data;
  missing @2 :Bool;
  lengths @3 :Data;                      # U64; frames 2…
  place @4 :Data;                        # as in ObjectPut
}

struct ObjectDelete {
  # C→O, S→O
  request @0 :UInt64;                    # 0: no answer wanted
  owner @1 :Data;
  ids @2 :Data;                          # none, from a scheduler: the owner has ended, all of its objects go
}

struct StoreStatus {
  request @0 :UInt64;
  objectCount @1 :UInt64;
  usedBytes @2 :UInt64;                  # in memory; identical contents are kept once
  limitBytes @3 :UInt64;
  owners @4 :Data;                       # client incarnations that own objects, 16 bytes each
  ownerObjects @5 :Data;                 # U64: objects of each
  ownerBytes @6 :Data;                   # U64: bytes of these, each counted in full however many share them
}

# Monitor streams. On the monitor socket an envelope is the topic; its `epoch` names the stream, so that a subscriber gets
# only what it subscribed to (ZeroMQ compares the beginning of the first frame), and the scheduler gathers only what
# somebody wants:
#
#   0  figures: MonitorSnapshot, MonitorFailures, MonitorLog. All other fields are 0.
#   1  events: MonitorEvents. All other fields are 0.
#   2  dump: MonitorDump, about once a second while somebody subscribes. `sequence` is a task number whose story is wanted in
#      particular, or 0.

struct MonitorSnapshot {
  # About once a second while somebody listens.
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
  functions @10 :List(Counter);          # tasks by function name, unfinished
  objectCount @11 :UInt64;
  objectBytes @12 :UInt64;               # in use at the object storage server
  objectLimitBytes @13 :UInt64;          # 0: not known
  agents @14 :List(AgentStatus);
  graphs @15 :List(GraphStatus);         # unfinished ones, at most 1,000
  adapters @16 :List(AdapterStatus);
  startedSeconds @17 :Float64;           # Unix time at which the scheduler started
  staleResults @18 :UInt64;              # dropped because the task was answered, cancelled or given to somebody else
  scalingStrategy @19 :Text;             # empty: none
  eventsOmitted @20 :UInt64;             # task events left out of the events stream since the scheduler started
  failedFunctions @21 :List(Counter);    # failed tasks by function name
  failedItems @22 :UInt64;               # of map chunks, since the scheduler started; their tasks count as successes

  struct Counter { name @0 :Text; count @1 :UInt64; }

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
    free @10 :UInt32;                    # tasks it would still accept
    sent @11 :UInt32;                    # tasks assigned, not answered
    queued @12 :UInt32;                  # of these, not started
    capabilities @13 :Text;
    latencySeconds @14 :Float64;
    lastSeenSeconds @15 :Float64;        # ago
    task @16 :UInt64;                    # number of the task it runs, where `function` is not empty
    function @17 :Text;
    taskSeconds @18 :Float64;            # how long it runs
  }

  struct AgentStatus {
    name @0 :Text;
    hostname @1 :Text;
    pid @2 :UInt32;
    workers @3 :UInt32;
    capacity @4 :UInt32;                 # tasks it wants in all, now
    assigned @5 :UInt32;
    queued @6 :UInt32;                   # of these, not started
    cpuPercent @7 :Float32;              # of the agent's own process
    rssBytes @8 :UInt64;
    rssFreeBytes @9 :UInt64;             # left on its host
    latencySeconds @10 :Float64;
    lastSeenSeconds @11 :Float64;
    draining @12 :Bool;
    capabilities @13 :Text;
    functions @14 :List(Counter);        # assigned tasks by function name
    incarnation @15 :Data;
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
    nested @9 :Bool;                     # lives inside a task
    graphs @10 :UInt32;
    objectCount @11 :UInt64;
    objectBytes @12 :UInt64;
    connectedSeconds @13 :Float64;       # ago
    failedItems @14 :UInt64;             # of map chunks
  }

  struct GraphStatus {
    client @0 :Data;
    firstNumber @1 :UInt64;
    rows @2 :UInt64;
    waiting @3 :UInt64;                  # for other rows
    released @4 :UInt64;                 # queued or assigned
    done @5 :UInt64;
    failed @6 :UInt64;
    heldResults @7 :UInt64;              # results kept because somebody will read them
  }

  struct AdapterStatus {
    # One worker adapter, as scaling sees it.
    url @0 :Text;
    state @1 :Text;                      # one word: "ok", "unreachable", …
    groups @2 :UInt32;                   # that exist
    groupsMax @3 :Int32;                 # -1: no limit
    workersPerGroup @4 :UInt32;
    requestedGroups @5 :UInt32;             # that scaling wants now
    startingGroups @6 :UInt32;           # asked for, not there yet
    capabilities @7 :Text;
    text @8 :Text;                       # the last error, for people; empty: none
  }
}

struct MonitorEvents {
  # Task transitions, one row each. When there are too many, whole tasks are left out: those whose number is not a multiple
  # of `stride`.
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
  durations @10 :Data;                   # U32, microseconds, of finished tasks
  dropped @11 :UInt64;                   # events left out since the last message
  slots @12 :Data;                       # U16: which of the agent's workers ran it; 65535: not known
  stride @13 :UInt32;                    # 1: every task is told
  incarnation @14 :Data;
  capabilities @15 :Data;                # U16 into capabilityTable, per row
  capabilityTable @16 :List(Text);       # what tasks ask for, as in "gpu,linux"; may hold the empty text
}

struct MonitorFailures {
  # Tasks that failed, with the answer their client got. The last ones are told again whenever a monitor joins.
  incarnation @0 :Data;
  firstNumber @1 :UInt64;                # failures are numbered from 1; rows follow each other
  timeSeconds @2 :Data;                  # F64
  clients @3 :Data;                      # 16 bytes each
  numbers @4 :Data;                      # U64
  attempts @5 :Data;                     # U16
  statuses @6 :Data;                     # U8
  functions @7 :List(Text);
  workers @8 :List(Text);                # agents
  durations @9 :Data;                    # U32, microseconds
  payloadLengths @10 :Data;              # U32; bytes in frame 2: the answer's payload. Empty where it was too large to be kept.
  items @11 :Data;                       # U32: 0 the task failed; else it is a map chunk and so many of its items did (payload: the first)
}

struct MonitorLog {
  # What the scheduler logs. The last lines are told again whenever a monitor joins.
  incarnation @0 :Data;
  firstNumber @1 :UInt64;                # lines are numbered from 1; rows follow each other
  timeSeconds @2 :Data;                  # F64
  levels @3 :Data;                       # U8, as in Python's logging: 10 debug … 50 critical
  texts @4 :List(Text);
}

struct MonitorDump {
  # The scheduler's tables at one moment, for people and programs that look into a problem.
  timeSeconds @0 :Float64;
  json @1 :Text;
}
