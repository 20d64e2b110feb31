/** Frames of a message: the envelope, the header, and payload frames. */

import { decodeHeader, type Message } from "./capnp.js";
import { ProtocolError } from "./errors.js";

/** The version of the protocol that this client speaks; a test compares it with that of the Python packages. */
export const PROTOCOL_VERSION = 7;
export const SOFTWARE_VERSION = "0.1.0";

export const SEQUENCED = 1;
export const RESEND = 2;

/** What the sender has sent and received in its session: see `session.ts`. */
export interface Envelope {
  readonly sequence: number;
  readonly acknowledged: number;
  readonly flags: number;
  readonly epoch: number;
}

/** For what belongs to no session. */
export const UNSEQUENCED: Envelope = { sequence: 0, acknowledged: 0, flags: 0, epoch: 0 };

const ENVELOPE_BYTES = 48;
const ENVELOPE_HEAD = Buffer.from("00000000050000000000000004000000", "hex");

/** Return the 48 bytes of an envelope. */
export function encodeEnvelope(envelope: Envelope): Buffer {
  const frame = Buffer.alloc(ENVELOPE_BYTES);
  ENVELOPE_HEAD.copy(frame);
  [envelope.sequence, envelope.acknowledged, envelope.flags, envelope.epoch].forEach((value, index) =>
    frame.writeBigUInt64LE(BigInt(value), 16 + 8 * index),
  );
  return frame;
}

/** Return the envelope in a frame. Throws ProtocolError. */
export function decodeEnvelope(frame: Buffer): Envelope {
  if (frame.length !== ENVELOPE_BYTES || !frame.subarray(0, 16).equals(ENVELOPE_HEAD)) {
    throw new ProtocolError("not an envelope");
  }
  const [sequence, acknowledged, flags, epoch] = readU64(frame.subarray(16)) as [number, number, number, number];
  return { sequence, acknowledged, flags, epoch };
}

/** A message that has arrived. `message` is null for a kind that clients need not know. */
export interface Incoming {
  readonly envelope: Envelope;
  readonly message: Message | null;
  readonly payloads: Buffer[];
  readonly bytes: number;
}

/** Return the message in these frames. Throws ProtocolError. */
export function decode(frames: Buffer[]): Incoming {
  const [envelope, header, ...payloads] = frames;
  if (envelope === undefined || header === undefined) {
    throw new ProtocolError("a message has two frames at least");
  }
  const bytes = frames.reduce((sum, frame) => sum + frame.length, 0);
  return { envelope: decodeEnvelope(envelope), message: decodeHeader(header), payloads, bytes };
}

// Columns: packed little-endian arrays.

export function writeU64(values: readonly number[]): Buffer {
  const column = Buffer.alloc(8 * values.length);
  values.forEach((value, index) => column.writeBigUInt64LE(BigInt(value), 8 * index));
  return column;
}

export function writeU32(values: readonly number[]): Buffer {
  const column = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => column.writeUInt32LE(value, 4 * index));
  return column;
}

export function writeU16(values: readonly number[]): Buffer {
  const column = Buffer.alloc(2 * values.length);
  values.forEach((value, index) => column.writeUInt16LE(value, 2 * index));
  return column;
}

/** Return the numbers of a column of U64. Those beyond 2**53 lose digits; this client makes none. */
export function readU64(column: Uint8Array): number[] {
  const view = new DataView(column.buffer, column.byteOffset, column.byteLength);
  return Array.from(
    { length: Math.floor(column.byteLength / 8) },
    (_, index) => view.getUint32(8 * index, true) + view.getUint32(8 * index + 4, true) * 2 ** 32,
  );
}

export function readU32(column: Uint8Array): number[] {
  const view = new DataView(column.buffer, column.byteOffset, column.byteLength);
  return Array.from({ length: Math.floor(column.byteLength / 4) }, (_, index) => view.getUint32(4 * index, true));
}

/** Return byte strings that lie end to end in one frame. Throws ProtocolError where the lengths do not add up. */
export function split(lengths: readonly number[], frame: Buffer): Buffer[] {
  let at = 0;
  const parts = lengths.map((length) => frame.subarray(at, (at += length)));
  if (at !== frame.length) {
    throw new ProtocolError(`lengths of ${at} bytes in a frame of ${frame.length}`);
  }
  return parts;
}
