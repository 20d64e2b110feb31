// Where the fields of messages are, from the schema. Written by scripts/write_node_layout.py: do not edit.

/** A field: its type, and where it is: a number of elements of its type, or the number of its pointer. */
export type Field = readonly [name: string, type: string, offset: number];

/** A struct: words of data, pointers, fields. A name as type of a field is another struct; "[X]" is a list of X. */
export interface Layout {
  readonly data: number;
  readonly pointers: number;
  readonly fields: readonly Field[];
}

export interface Hello {
  role: number;
  protocolVersion: number;
  pythonVersion: string;
  softwareVersion: string;
  name: string;
  incarnation: Uint8Array;
  hostname: string;
  pid: number;
  schedulerIncarnation: Uint8Array;
  workerNames: string[];
  capabilities: Capability[];
  capacity: number;
  queueLimit: number;
  streamOutput: boolean;
  timeoutSeconds: number;
  helloNumber: number;
  takesChains: boolean;
  toObjectStorage: boolean;
  parent: Uint8Array;
  group: string;
  term: bigint;
  resources: string;
  devices: string[];
  user: string;
  memoryBytes: bigint;
  processorLimitBytes: bigint;
}

export interface Capability {
  name: string;
  value: bigint;
}

export interface Welcome {
  incarnation: Uint8Array;
  resumed: boolean;
  objectStorageAddress: string;
  monitorAddress: string;
  heartbeatSeconds: number;
  timeoutSeconds: number;
  protected: boolean;
  taskCredit: bigint;
  protocolVersion: number;
  softwareVersion: string;
  capabilityPolicy: boolean;
  helloNumber: number;
  segmentOffer: Uint8Array;
  endsCluster: boolean;
  takesHomes: boolean;
  dashboardUrl: string;
  term: bigint;
}

export interface Heartbeat {
  sentAtSeconds: number;
  echoSeconds: number;
  capacity: number;
  cpuPercent: number;
  rssBytes: bigint;
  rssFreeBytes: bigint;
  queued: number;
  latencySeconds: number;
  processorPids: Uint8Array;
  processorCpuPercents: Uint8Array;
  processorRssBytes: Uint8Array;
  processorStates: Uint8Array;
  processorTasks: Uint8Array;
  processorFunctions: Uint8Array;
  processorMilliseconds: Uint8Array;
  processorEnvironments: Uint8Array;
}

export interface TaskBatch {
  client: Uint8Array;
  numbers: Uint8Array;
  attempts: Uint8Array;
  functions: Uint8Array;
  functionIndexes: Uint8Array;
  payloadLengths: Uint8Array;
  depth: number;
  kind: number;
  flags: number;
  capabilities: Capability[];
  serializer: Uint8Array;
  objectPositions: Uint8Array;
  objects: Uint8Array;
  inputPositions: Uint8Array;
  inputLengths: Uint8Array;
  inputSources: Uint8Array;
  chainEnds: Uint8Array;
  objectSizes: Uint8Array;
  options: Uint8Array;
  granted: string;
  devices: string;
}

export interface ResultBatch {
  client: Uint8Array;
  numbers: Uint8Array;
  attempts: Uint8Array;
  statuses: Uint8Array;
  payloadLengths: Uint8Array;
  durations: Uint8Array;
  cpuTimes: Uint8Array;
  memoryPeaks: Uint8Array;
  objectPositions: Uint8Array;
  objects: Uint8Array;
  capacity: number;
  slots: Uint8Array;
  objectBytes: Uint8Array;
  readTimes: Uint8Array;
  writeTimes: Uint8Array;
}

export interface FunctionDefine {
  ids: Uint8Array;
  lengths: Uint8Array;
  client: Uint8Array;
  names: string[];
  serializer: Uint8Array;
}

export interface TaskCancel {
  client: Uint8Array;
  numbers: Uint8Array;
  attempts: Uint8Array;
  waitingOnly: number;
}

export interface GraphSubmit {
  client: Uint8Array;
  firstNumber: bigint;
  functions: Uint8Array;
  functionIndexes: Uint8Array;
  payloadLengths: Uint8Array;
  dependencyCounts: Uint8Array;
  dependencies: Uint8Array;
  wanted: Uint8Array;
  capabilities: Capability[];
  serializer: Uint8Array;
  flags: number;
  depth: number;
  objectPositions: Uint8Array;
  objects: Uint8Array;
  earlier: Uint8Array;
  firstRow: number;
  rowCount: number;
  objectSizes: Uint8Array;
  options: Uint8Array;
}

export interface Output {
  client: Uint8Array;
  number: bigint;
  stream: number;
  droppedBytes: bigint;
}

export interface Notice {
  level: number;
  text: string;
  numbers: Uint8Array;
  kind: string;
}

export interface ObjectPut {
  request: bigint;
  id: Uint8Array;
  owner: Uint8Array;
  lengths: Uint8Array;
  name: string;
  place: Uint8Array;
  incomplete: boolean;
  filled: bigint;
}

export interface ObjectReply {
  request: bigint;
  status: number;
  text: string;
}

export interface ObjectGet {
  request: bigint;
  id: Uint8Array;
  waitSeconds: number;
  mappable: boolean;
  followsHomes: boolean;
  pieces: boolean;
  size: bigint;
  offset: bigint;
  keepsAt: string;
}

export interface ObjectData {
  request: bigint;
  id: Uint8Array;
  missing: boolean;
  lengths: Uint8Array;
  place: Uint8Array;
  mayCome: boolean;
  gone: boolean;
}

export interface ObjectDelete {
  request: bigint;
  owner: Uint8Array;
  ids: Uint8Array;
}

export interface ObjectBatch {
  kind: number;
  requests: Uint8Array;
  ids: Uint8Array;
  owner: Uint8Array;
  places: Uint8Array;
  waitSeconds: number;
  mappable: boolean;
  followsHomes: boolean;
  pieces: boolean;
  bufferCounts: Uint8Array;
  contentLengths: Uint8Array;
}

/** The kinds of messages, and what each of them contains. */
export interface Bodies {
  hello: Hello;
  welcome: Welcome;
  refused: string;
  unknownPeer: null;
  heartbeat: Heartbeat;
  goodbye: string;
  taskBatch: TaskBatch;
  resultBatch: ResultBatch;
  functionDefine: FunctionDefine;
  taskCancel: TaskCancel;
  creditRequest: number;
  creditGrant: number;
  graphSubmit: GraphSubmit;
  output: Output;
  shutdown: string;
  notice: Notice;
  objectPut: ObjectPut;
  objectPutReply: ObjectReply;
  objectGet: ObjectGet;
  objectData: ObjectData;
  objectDelete: ObjectDelete;
  objectDeleteReply: ObjectReply;
  objectBatch: ObjectBatch;
}

export const STRUCTS: Readonly<Record<string, Layout>> = {
  Hello: {
    data: 7,
    pointers: 13,
    fields: [
      ["role", "uint16", 0],
      ["protocolVersion", "uint16", 1],
      ["pythonVersion", "text", 0],
      ["softwareVersion", "text", 1],
      ["name", "text", 2],
      ["incarnation", "data", 3],
      ["hostname", "text", 4],
      ["pid", "uint32", 1],
      ["schedulerIncarnation", "data", 5],
      ["workerNames", "[text]", 6],
      ["capabilities", "[Capability]", 7],
      ["capacity", "uint32", 2],
      ["queueLimit", "uint32", 3],
      ["streamOutput", "bool", 128],
      ["timeoutSeconds", "float64", 3],
      ["helloNumber", "uint32", 5],
      ["takesChains", "bool", 129],
      ["toObjectStorage", "bool", 130],
      ["parent", "data", 8],
      ["group", "text", 9],
      ["term", "uint64", 4],
      ["resources", "text", 10],
      ["devices", "[text]", 11],
      ["user", "text", 12],
      ["memoryBytes", "uint64", 5],
      ["processorLimitBytes", "uint64", 6],
    ],
  },
  Capability: {
    data: 1,
    pointers: 1,
    fields: [
      ["name", "text", 0],
      ["value", "int64", 0],
    ],
  },
  Welcome: {
    data: 5,
    pointers: 6,
    fields: [
      ["incarnation", "data", 0],
      ["resumed", "bool", 0],
      ["objectStorageAddress", "text", 1],
      ["monitorAddress", "text", 2],
      ["heartbeatSeconds", "float64", 1],
      ["timeoutSeconds", "float64", 2],
      ["protected", "bool", 1],
      ["taskCredit", "int64", 3],
      ["protocolVersion", "uint16", 1],
      ["softwareVersion", "text", 3],
      ["capabilityPolicy", "bool", 2],
      ["helloNumber", "uint32", 1],
      ["segmentOffer", "data", 4],
      ["endsCluster", "bool", 3],
      ["takesHomes", "bool", 4],
      ["dashboardUrl", "text", 5],
      ["term", "uint64", 4],
    ],
  },
  Heartbeat: {
    data: 7,
    pointers: 8,
    fields: [
      ["sentAtSeconds", "float64", 0],
      ["echoSeconds", "float64", 1],
      ["capacity", "uint32", 4],
      ["cpuPercent", "float32", 5],
      ["rssBytes", "uint64", 3],
      ["rssFreeBytes", "uint64", 4],
      ["queued", "uint32", 10],
      ["latencySeconds", "float64", 6],
      ["processorPids", "data", 0],
      ["processorCpuPercents", "data", 1],
      ["processorRssBytes", "data", 2],
      ["processorStates", "data", 3],
      ["processorTasks", "data", 4],
      ["processorFunctions", "data", 5],
      ["processorMilliseconds", "data", 6],
      ["processorEnvironments", "data", 7],
    ],
  },
  TaskBatch: {
    data: 1,
    pointers: 18,
    fields: [
      ["client", "data", 0],
      ["numbers", "data", 1],
      ["attempts", "data", 2],
      ["functions", "data", 3],
      ["functionIndexes", "data", 4],
      ["payloadLengths", "data", 5],
      ["depth", "uint16", 0],
      ["kind", "uint8", 2],
      ["flags", "uint8", 3],
      ["capabilities", "[Capability]", 6],
      ["serializer", "data", 7],
      ["objectPositions", "data", 8],
      ["objects", "data", 9],
      ["inputPositions", "data", 10],
      ["inputLengths", "data", 11],
      ["inputSources", "data", 12],
      ["chainEnds", "data", 13],
      ["objectSizes", "data", 14],
      ["options", "data", 15],
      ["granted", "text", 16],
      ["devices", "text", 17],
    ],
  },
  ResultBatch: {
    data: 1,
    pointers: 14,
    fields: [
      ["client", "data", 0],
      ["numbers", "data", 1],
      ["attempts", "data", 2],
      ["statuses", "data", 3],
      ["payloadLengths", "data", 4],
      ["durations", "data", 5],
      ["cpuTimes", "data", 6],
      ["memoryPeaks", "data", 7],
      ["objectPositions", "data", 8],
      ["objects", "data", 9],
      ["capacity", "uint32", 0],
      ["slots", "data", 10],
      ["objectBytes", "data", 11],
      ["readTimes", "data", 12],
      ["writeTimes", "data", 13],
    ],
  },
  FunctionDefine: {
    data: 0,
    pointers: 5,
    fields: [
      ["ids", "data", 0],
      ["lengths", "data", 1],
      ["client", "data", 2],
      ["names", "[text]", 3],
      ["serializer", "data", 4],
    ],
  },
  TaskCancel: {
    data: 1,
    pointers: 3,
    fields: [
      ["client", "data", 0],
      ["numbers", "data", 1],
      ["attempts", "data", 2],
      ["waitingOnly", "uint8", 0],
    ],
  },
  GraphSubmit: {
    data: 3,
    pointers: 14,
    fields: [
      ["client", "data", 0],
      ["firstNumber", "uint64", 0],
      ["functions", "data", 1],
      ["functionIndexes", "data", 2],
      ["payloadLengths", "data", 3],
      ["dependencyCounts", "data", 4],
      ["dependencies", "data", 5],
      ["wanted", "data", 6],
      ["capabilities", "[Capability]", 7],
      ["serializer", "data", 8],
      ["flags", "uint8", 8],
      ["depth", "uint16", 5],
      ["objectPositions", "data", 9],
      ["objects", "data", 10],
      ["earlier", "data", 11],
      ["firstRow", "uint32", 3],
      ["rowCount", "uint32", 4],
      ["objectSizes", "data", 12],
      ["options", "data", 13],
    ],
  },
  Output: {
    data: 3,
    pointers: 1,
    fields: [
      ["client", "data", 0],
      ["number", "uint64", 0],
      ["stream", "uint8", 8],
      ["droppedBytes", "uint64", 2],
    ],
  },
  Notice: {
    data: 1,
    pointers: 3,
    fields: [
      ["level", "uint8", 0],
      ["text", "text", 0],
      ["numbers", "data", 1],
      ["kind", "text", 2],
    ],
  },
  ObjectPut: {
    data: 3,
    pointers: 5,
    fields: [
      ["request", "uint64", 0],
      ["id", "data", 0],
      ["owner", "data", 1],
      ["lengths", "data", 2],
      ["name", "text", 3],
      ["place", "data", 4],
      ["incomplete", "bool", 64],
      ["filled", "uint64", 2],
    ],
  },
  ObjectReply: {
    data: 2,
    pointers: 1,
    fields: [
      ["request", "uint64", 0],
      ["status", "uint8", 8],
      ["text", "text", 0],
    ],
  },
  ObjectGet: {
    data: 5,
    pointers: 2,
    fields: [
      ["request", "uint64", 0],
      ["id", "data", 0],
      ["waitSeconds", "float64", 1],
      ["mappable", "bool", 128],
      ["followsHomes", "bool", 129],
      ["pieces", "bool", 130],
      ["size", "uint64", 3],
      ["offset", "uint64", 4],
      ["keepsAt", "text", 1],
    ],
  },
  ObjectData: {
    data: 2,
    pointers: 3,
    fields: [
      ["request", "uint64", 0],
      ["id", "data", 0],
      ["missing", "bool", 64],
      ["lengths", "data", 1],
      ["place", "data", 2],
      ["mayCome", "bool", 65],
      ["gone", "bool", 66],
    ],
  },
  ObjectDelete: {
    data: 1,
    pointers: 2,
    fields: [
      ["request", "uint64", 0],
      ["owner", "data", 0],
      ["ids", "data", 1],
    ],
  },
  ObjectBatch: {
    data: 2,
    pointers: 6,
    fields: [
      ["kind", "uint8", 0],
      ["requests", "data", 0],
      ["ids", "data", 1],
      ["owner", "data", 2],
      ["places", "data", 3],
      ["waitSeconds", "float64", 1],
      ["mappable", "bool", 8],
      ["followsHomes", "bool", 9],
      ["pieces", "bool", 10],
      ["bufferCounts", "data", 4],
      ["contentLengths", "data", 5],
    ],
  },
};

/** `Message`: its size, where the number of its kind is (in 16 bits), and the kinds. */
export const MESSAGE = {
  data: 2,
  pointers: 1,
  kindAt: 0,
  kinds: {
    hello: [0, "Hello", 0],
    welcome: [1, "Welcome", 0],
    refused: [2, "text", 0],
    unknownPeer: [3, "void", 0],
    heartbeat: [4, "Heartbeat", 0],
    goodbye: [5, "text", 0],
    taskBatch: [6, "TaskBatch", 0],
    resultBatch: [7, "ResultBatch", 0],
    functionDefine: [8, "FunctionDefine", 0],
    taskCancel: [9, "TaskCancel", 0],
    creditRequest: [15, "uint32", 1],
    creditGrant: [16, "uint32", 1],
    graphSubmit: [13, "GraphSubmit", 0],
    output: [19, "Output", 0],
    shutdown: [17, "text", 0],
    notice: [18, "Notice", 0],
    objectPut: [21, "ObjectPut", 0],
    objectPutReply: [22, "ObjectReply", 0],
    objectGet: [23, "ObjectGet", 0],
    objectData: [24, "ObjectData", 0],
    objectDelete: [25, "ObjectDelete", 0],
    objectDeleteReply: [29, "ObjectReply", 0],
    objectBatch: [41, "ObjectBatch", 0],
  } as Readonly<Record<keyof Bodies, readonly [number: number, type: string, offset: number]>>,
};
