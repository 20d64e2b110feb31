/** Calls Python functions on a Scaler cluster. See the README. */

export { Client, type ConnectOptions, type MapOptions } from "./client.js";
export {
  CancelledError,
  ClientClosedError,
  ConnectionRefusedError,
  DisconnectedError,
  PlainDataError,
  ProtocolError,
  QueueFullError,
  RemoteTaskError,
  ScalerError,
  StorageError,
  TaskEndedError,
  type TaskStatus,
} from "./errors.js";
export type { Keys } from "./link.js";
export type { Retries, SubmitOptions } from "./options.js";
export type { LogRecord, TaskOutput } from "./output.js";
export type { TaskPromise } from "./task.js";
