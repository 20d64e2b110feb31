/** Calls Python functions on a Scaler cluster. See the README. */

export { Client, type ConnectOptions, type MapOptions, type SubmitOptions, type TaskPromise } from "./client.js";
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
