/**
 * Cap'n Proto's standard encoding, as far as the protocol needs it: structs, texts, data, lists of texts and of structs.
 *
 * `layout.ts` says where fields are. Absent fields are written as zeros, as Cap'n Proto does with defaults.
 */

import { ProtocolError } from "./errors.js";
import { type Bodies, type Layout, MESSAGE, STRUCTS } from "./layout.js";

export type Kind = keyof Bodies;

/** A message that was read: its kind, and what it contains. */
export type Message = { [K in Kind]: { kind: K; body: Bodies[K] } }[Kind];

type Partially<Body> = Body extends object ? (Body extends Uint8Array ? Body : Partial<Body>) : Body;

const WORD = 8;
const KINDS = new Map<number, Kind>();
for (const [kind, [number]] of Object.entries(MESSAGE.kinds)) {
  KINDS.set(number, kind as Kind);
}

/** Return the header frame of a message. */
export function encodeHeader<K extends Kind>(kind: K, body: Partially<Bodies[K]>): Buffer {
  const writer = new Writer();
  const [number, type, offset] = MESSAGE.kinds[kind];
  const root = writer.allocate(1);
  const at = writer.struct(root, MESSAGE.data, MESSAGE.pointers);
  writer.bytes.writeUInt16LE(number, at + 2 * MESSAGE.kindAt);
  writer.field(at, MESSAGE.data, type, offset, body);
  return writer.finish();
}

/** Return what a header frame says, or null for a kind that clients need not know. Throws ProtocolError. */
export function decodeHeader(frame: Uint8Array): Message | null {
  try {
    const reader = new Reader(frame);
    const root = reader.follow(0, 0);
    if (root === null) {
      throw new ProtocolError("a message without a kind");
    }
    const at = reader.structAt(root);
    const kind = KINDS.get(reader.uint16(at, MESSAGE.kindAt));
    if (kind === undefined) {
      return null;
    }
    const [, type, offset] = MESSAGE.kinds[kind];
    return { kind, body: reader.field(at, type, offset) } as Message;
  } catch (error) {
    if (error instanceof RangeError) {
      throw new ProtocolError("a header that points outside of itself");
    }
    throw error;
  }
}

class Writer {
  bytes = Buffer.alloc(512);
  private words = 0;

  /** Return the byte at which so many new words begin. */
  allocate(words: number): number {
    const at = WORD * (this.words + 1);
    this.words += words;
    const needed = WORD * (this.words + 1);
    if (needed > this.bytes.length) {
      const larger = Buffer.alloc(Math.max(needed, 2 * this.bytes.length));
      this.bytes.copy(larger);
      this.bytes = larger;
    }
    return at;
  }

  finish(): Buffer {
    this.bytes.writeUInt32LE(0, 0);
    this.bytes.writeUInt32LE(this.words, 4);
    return this.bytes.subarray(0, WORD * (this.words + 1));
  }

  struct(pointer: number, data: number, pointers: number): number {
    const at = this.allocate(data + pointers);
    this.point(pointer, at, 0, data + pointers * 0x10000);
    return at;
  }

  field(at: number, dataWords: number, type: string, offset: number, value: unknown): void {
    if (value === undefined || value === null) {
      return;
    }
    switch (type) {
      case "bool":
        if (value === true) {
          const byte = at + (offset >> 3);
          this.bytes[byte] = (this.bytes[byte] ?? 0) | (1 << (offset & 7));
        }
        return;
      case "uint8":
        this.bytes.writeUInt8(value as number, at + offset);
        return;
      case "uint16":
        this.bytes.writeUInt16LE(value as number, at + 2 * offset);
        return;
      case "uint32":
        this.bytes.writeUInt32LE(value as number, at + 4 * offset);
        return;
      case "uint64":
        this.bytes.writeBigUInt64LE(value as bigint, at + 8 * offset);
        return;
      case "int64":
        this.bytes.writeBigInt64LE(value as bigint, at + 8 * offset);
        return;
      case "float32":
        this.bytes.writeFloatLE(value as number, at + 4 * offset);
        return;
      case "float64":
        this.bytes.writeDoubleLE(value as number, at + 8 * offset);
        return;
    }
    const pointer = at + WORD * (dataWords + offset);
    if (type === "text") {
      this.text(pointer, value as string);
    } else if (type === "data") {
      this.list(pointer, value as Uint8Array, 0);
    } else if (type === "[text]") {
      this.texts(pointer, value as string[]);
    } else if (type.startsWith("[")) {
      this.structs(pointer, layoutOf(type.slice(1, -1)), value as Record<string, unknown>[]);
    } else {
      const layout = layoutOf(type);
      this.fields(this.struct(pointer, layout.data, layout.pointers), layout, value as Record<string, unknown>);
    }
  }

  private fields(at: number, layout: Layout, value: Record<string, unknown>): void {
    for (const [name, type, offset] of layout.fields) {
      this.field(at, layout.data, type, offset, value[name]);
    }
  }

  private text(pointer: number, value: string): void {
    if (value !== "") {
      this.list(pointer, Buffer.from(value, "utf8"), 1);
    }
  }

  private list(pointer: number, bytes: Uint8Array, zeros: number): void {
    const length = bytes.length + zeros;
    if (length === 0) {
      return;
    }
    const at = this.allocate(Math.ceil(length / WORD));
    this.bytes.set(bytes, at);
    this.point(pointer, at, 1, 2 + 8 * length);
  }

  private texts(pointer: number, values: string[]): void {
    if (values.length === 0) {
      return;
    }
    const at = this.allocate(values.length);
    this.point(pointer, at, 1, 6 + 8 * values.length);
    values.forEach((value, index) => this.text(at + WORD * index, value));
  }

  private structs(pointer: number, layout: Layout, values: Record<string, unknown>[]): void {
    if (values.length === 0) {
      return;
    }
    const size = layout.data + layout.pointers;
    const at = this.allocate(1 + size * values.length);
    this.point(pointer, at, 1, 7 + 8 * size * values.length);
    this.bytes.writeUInt32LE(4 * values.length, at);
    this.bytes.writeUInt32LE(layout.data + layout.pointers * 0x10000, at + 4);
    values.forEach((value, index) => this.fields(at + WORD * (1 + size * index), layout, value));
  }

  private point(pointer: number, target: number, kind: number, high: number): void {
    this.bytes.writeInt32LE(4 * ((target - pointer) / WORD - 1) + kind, pointer);
    this.bytes.writeUInt32LE(high, pointer + 4);
  }
}

/** Where something is: the byte at which it begins, and the high half of the pointer to it. */
interface Target {
  readonly segment: number;
  readonly at: number;
  readonly low: number;
  readonly high: number;
}

interface StructAt {
  readonly segment: number;
  readonly at: number;
  readonly data: number;
  readonly pointers: number;
}

class Reader {
  private readonly bytes: Buffer;
  private readonly starts: number[] = [];
  private readonly ends: number[] = [];
  private unread: number;

  constructor(frame: Uint8Array) {
    this.bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
    const count = this.bytes.readUInt32LE(0) + 1;
    if (count > 1024) {
      throw new ProtocolError(`a header of ${count} segments`);
    }
    let at = WORD * Math.ceil((4 + 4 * count) / WORD);
    for (let index = 0; index < count; index += 1) {
      this.starts.push(at);
      at += WORD * this.bytes.readUInt32LE(4 + 4 * index);
      this.ends.push(at);
    }
    if (at > this.bytes.length) {
      throw new ProtocolError("a header that is cut off");
    }
    // What pointers lead to may overlap: the whole may not be read many times over.
    this.unread = 8 * this.bytes.length + 4096;
  }

  uint16(at: StructAt, offset: number): number {
    return 2 * offset + 2 <= WORD * at.data ? this.bytes.readUInt16LE(at.at + 2 * offset) : 0;
  }

  field(at: StructAt, type: string, offset: number): unknown {
    // A field behind the end of the data has its default: the sender has an older schema.
    const fits = (bytes: number) => (offset + 1) * bytes <= WORD * at.data;
    switch (type) {
      case "void":
        return null;
      case "bool":
        return offset < 64 * at.data && ((this.bytes[at.at + (offset >> 3)] ?? 0) & (1 << (offset & 7))) !== 0;
      case "uint8":
        return fits(1) ? this.bytes.readUInt8(at.at + offset) : 0;
      case "uint16":
        return this.uint16(at, offset);
      case "uint32":
        return fits(4) ? this.bytes.readUInt32LE(at.at + 4 * offset) : 0;
      case "uint64":
        return fits(8) ? this.bytes.readBigUInt64LE(at.at + 8 * offset) : 0n;
      case "int64":
        return fits(8) ? this.bytes.readBigInt64LE(at.at + 8 * offset) : 0n;
      case "float32":
        return fits(4) ? this.bytes.readFloatLE(at.at + 4 * offset) : 0;
      case "float64":
        return fits(8) ? this.bytes.readDoubleLE(at.at + 8 * offset) : 0;
    }
    const target = offset < at.pointers ? this.follow(at.segment, at.at + WORD * (at.data + offset)) : null;
    if (type === "text") {
      return target === null ? "" : this.list(target).subarray(0, -1).toString("utf8");
    }
    if (type === "data") {
      return target === null ? Buffer.alloc(0) : this.list(target);
    }
    if (type === "[text]") {
      return target === null ? [] : this.texts(target);
    }
    if (type.startsWith("[")) {
      return target === null ? [] : this.structs(target, layoutOf(type.slice(1, -1)));
    }
    const nothing = { segment: 0, at: 0, data: 0, pointers: 0 };
    return this.fields(target === null ? nothing : this.structAt(target), layoutOf(type));
  }

  /** Return where a pointer leads; null for none. `at` 0 is the root pointer of segment 0. */
  follow(segment: number, at: number): Target | null {
    const place = at === 0 ? this.start(segment) : at;
    const low = this.bytes.readInt32LE(place);
    const high = this.bytes.readUInt32LE(place + 4);
    if (low === 0 && high === 0) {
      return null;
    }
    if ((low & 3) !== 2) {
      return { segment, at: place + WORD * (1 + (low >> 2)), low, high };
    }
    const landing = this.start(high) + WORD * (low >>> 3);
    if ((low & 4) === 0) {
      return this.follow(high, landing);
    }
    // A landing pad of two words: where the content is, and the pointer's other half.
    const farLow = this.bytes.readInt32LE(landing);
    const farSegment = this.bytes.readUInt32LE(landing + 4);
    return {
      segment: farSegment,
      at: this.start(farSegment) + WORD * (farLow >>> 3),
      low: this.bytes.readInt32LE(landing + WORD),
      high: this.bytes.readUInt32LE(landing + WORD + 4),
    };
  }

  structAt(target: Target): StructAt {
    if ((target.low & 3) !== 0) {
      throw new ProtocolError("a pointer to a list where a struct belongs");
    }
    const data = target.high & 0xffff;
    const pointers = target.high >>> 16;
    this.claim(target, WORD * (data + pointers));
    return { segment: target.segment, at: target.at, data, pointers };
  }

  private start(segment: number): number {
    const start = this.starts[segment];
    if (start === undefined) {
      throw new ProtocolError(`no segment ${segment}`);
    }
    return start;
  }

  private claim(target: Target, bytes: number): void {
    const end = this.ends[target.segment] ?? 0;
    this.unread -= bytes + WORD;
    if (target.at < this.start(target.segment) || target.at + bytes > end || this.unread < 0) {
      throw new ProtocolError("a header that points outside of itself");
    }
  }

  private length(target: Target, size: number): number {
    if ((target.low & 3) !== 1 || (target.high & 7) !== size) {
      throw new ProtocolError("a pointer to another kind of list");
    }
    return target.high >>> 3;
  }

  private list(target: Target): Buffer {
    const length = this.length(target, 2);
    this.claim(target, length);
    return this.bytes.subarray(target.at, target.at + length);
  }

  private texts(target: Target): string[] {
    const count = this.length(target, 6);
    this.claim(target, WORD * count);
    return Array.from({ length: count }, (_, index) => {
      const text = this.follow(target.segment, target.at + WORD * index);
      return text === null ? "" : this.list(text).subarray(0, -1).toString("utf8");
    });
  }

  private structs(target: Target, layout: Layout): Record<string, unknown>[] {
    const words = this.length(target, 7);
    this.claim(target, WORD * (1 + words));
    const count = this.bytes.readUInt32LE(target.at) >>> 2;
    const sizes = this.bytes.readUInt32LE(target.at + 4);
    const [data, pointers] = [sizes & 0xffff, sizes >>> 16];
    if (count * Math.max(1, data + pointers) > Math.max(words, 1024)) {
      throw new ProtocolError("a list that is longer than it says");
    }
    return Array.from({ length: count }, (_, index) => {
      const at = target.at + WORD * (1 + index * (data + pointers));
      return this.fields({ segment: target.segment, at, data, pointers }, layout);
    });
  }

  private fields(at: StructAt, layout: Layout): Record<string, unknown> {
    return Object.fromEntries(layout.fields.map(([name, type, offset]) => [name, this.field(at, type, offset)]));
  }
}

function layoutOf(name: string): Layout {
  const layout = STRUCTS[name];
  if (layout === undefined) {
    throw new ProtocolError(`no struct ${name}`);
  }
  return layout;
}
