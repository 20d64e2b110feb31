/**
 * Large values: requests to the object storage server. There is no session: a request has a number and is repeated until it is
 * answered, and doing one twice does no harm, because objects never change.
 */

import { encodeHeader, type Message } from "./capnp.js";
import { StorageError } from "./errors.js";
import type { Hello, ObjectBatch } from "./layout.js";
import {
  COMING_SECONDS_MAX,
  FULL_PAUSE_SECONDS,
  GET_WAIT_SECONDS,
  PUT_WINDOW_BYTES,
  REPEAT_SECONDS,
  REPEAT_SECONDS_MAX,
  SLOWEST_BYTES_PER_SECOND,
  STORAGE_TIMEOUT_SECONDS,
} from "./limits.js";
import { type Keys, Link } from "./link.js";
import { decode, type Incoming, readU32, readU64, split, UNSEQUENCED, writeU64 } from "./wire.js";

const DONE = 0;
const STORAGE_FULL = 2;
const OF_DATA = 2;
const OF_PUT_REPLIES = 3;
const OF_DELETE_REPLIES = 4;

interface Request {
  readonly kind: "put" | "get" | "delete";
  readonly frames: (number: number) => Buffer[];
  readonly size: number;
  readonly resolve: (buffers: Buffer[]) => void;
  readonly reject: (error: StorageError) => void;
  deadline: number;
  /** Gets: until when to ask for an object that may come. */
  comingUntil: number;
  due: number;
  repeats: number;
  refusal: string;
  isUnheard: boolean;
}

/** A connection to object storage, made when it is first needed. Times are in seconds. */
export class Storage {
  private link: Link | null = null;
  private lastNumber = 0;
  private readonly pending = new Map<number, Request>();
  private waitingPuts: Request[] = [];
  private windowBytes = 0;
  private helloNumber = 0;
  private helloAt = 0;
  private isWelcomed = false;
  private incarnation: Uint8Array | null = null;
  private isClosed = false;

  constructor(
    private readonly address: string,
    private readonly identity: Buffer,
    private readonly hello: Partial<Hello>,
    private readonly keys: Keys | undefined,
    /** Called when the server is another process than before, without the earlier objects. */
    private readonly onChanged: () => void,
  ) {}

  /** Store an object of this client. It is there when the promise is kept. */
  async put(id: Buffer, buffers: Buffer[]): Promise<void> {
    const size = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    const lengths = writeU64(buffers.map((buffer) => buffer.length));
    await this.request("put", size, (request) => [
      encodeHeader("objectPut", { request: BigInt(request), id, owner: this.identity, lengths }),
      ...buffers,
    ]);
  }

  /** Fetch an object's buffers, waiting for it if it is on its way. */
  get(id: Buffer): Promise<Buffer[]> {
    return this.request("get", 0, (request) => [
      encodeHeader("objectGet", { request: BigInt(request), id, waitSeconds: GET_WAIT_SECONDS }),
    ]);
  }

  /** Delete objects of this client. Whether it was done nobody needs to know: what is left goes with the client. */
  delete(ids: Buffer[]): void {
    this.request("delete", 0, (request) => [
      encodeHeader("objectDelete", { request: BigInt(request), owner: this.identity, ids: Buffer.concat(ids) }),
    ]).catch(() => undefined);
  }

  /** Repeat what is due. To be called several times a second. */
  tick(): void {
    const now = seconds();
    for (const [number, request] of this.pending) {
      if (now >= request.deadline) {
        const why = request.refusal === "" ? "it does not answer" : request.refusal;
        this.finish(number)?.reject(new StorageError(`object storage at ${this.address}: ${why}`));
      } else if (now >= request.due) {
        request.isUnheard = true;
        request.repeats += 1;
        request.due = now + Math.min(REPEAT_SECONDS * 2 ** request.repeats, REPEAT_SECONDS_MAX);
        if (this.isWelcomed) {
          this.sayHello(now);
        }
      }
    }
    if (this.pending.size > 0 && !this.isWelcomed && now >= this.helloAt + REPEAT_SECONDS) {
      this.sayHello(now);
    }
  }

  /** Give up what is not answered, for this reason, and close when everything has left or the time is over. */
  async close(reason: string, milliseconds: number): Promise<void> {
    this.isClosed = true;
    for (const request of [...this.pending.values(), ...this.waitingPuts]) {
      request.reject(new StorageError(reason));
    }
    this.pending.clear();
    this.waitingPuts = [];
    if (this.link !== null) {
      this.link.send([{ envelope: UNSEQUENCED, frames: [encodeHeader("goodbye", reason)] }]);
      await this.link.close(milliseconds);
    }
  }

  private request(kind: Request["kind"], size: number, frames: Request["frames"]): Promise<Buffer[]> {
    return new Promise((resolve, reject) => {
      if (this.isClosed) {
        reject(new StorageError("the client was closed"));
        return;
      }
      const comingUntil = seconds() + COMING_SECONDS_MAX;
      const times = { deadline: 0, comingUntil, due: 0, repeats: 0, refusal: "", isUnheard: false };
      const request: Request = { kind, frames, size, resolve, reject, ...times };
      if (kind === "put") {
        this.waitingPuts.push(request);
        this.fillWindow();
      } else {
        this.begin(request);
      }
    });
  }

  private fillWindow(): void {
    let next = this.waitingPuts[0];
    while (next !== undefined && (this.windowBytes === 0 || this.windowBytes + next.size <= PUT_WINDOW_BYTES)) {
      this.waitingPuts.shift();
      this.windowBytes += next.size;
      this.begin(next);
      next = this.waitingPuts[0];
    }
  }

  private begin(request: Request): void {
    const now = seconds();
    const allowance = request.kind === "get" ? GET_WAIT_SECONDS : this.windowBytes / SLOWEST_BYTES_PER_SECOND;
    request.deadline = now + STORAGE_TIMEOUT_SECONDS + allowance;
    request.due = now + REPEAT_SECONDS + allowance;
    this.lastNumber += 1;
    this.pending.set(this.lastNumber, request);
    if (this.link === null) {
      this.link = new Link(this.address, this.identity, this.keys, (frames) => this.receive(frames));
      this.sayHello(now);
    }
    this.transmit(this.lastNumber, request);
  }

  private transmit(number: number, request: Request): void {
    request.isUnheard = false;
    this.link?.send([{ envelope: UNSEQUENCED, frames: request.frames(number) }]);
  }

  private sayHello(now: number): void {
    this.helloNumber += 1;
    this.helloAt = now;
    this.isWelcomed = false;
    const hello = { ...this.hello, helloNumber: this.helloNumber, toObjectStorage: true };
    this.link?.send([{ envelope: UNSEQUENCED, frames: [encodeHeader("hello", hello)], key: "hello" }]);
  }

  private receive(frames: Buffer[]): void {
    let incoming: Incoming;
    try {
      incoming = decode(frames);
      if (incoming.message !== null) {
        this.onMessage(incoming.message, incoming.payloads);
      }
    } catch (error) {
      this.refuseAll(`it sends what cannot be read: ${(error as Error).message}`);
    }
  }

  private onMessage(message: Message, payloads: Buffer[]): void {
    switch (message.kind) {
      case "welcome":
        this.onWelcome(message.body.helloNumber, message.body.incarnation);
        break;
      case "unknownPeer":
        for (const request of this.pending.values()) {
          request.isUnheard = true;
        }
        if (this.isWelcomed) {
          this.sayHello(seconds());
        }
        break;
      case "refused":
        this.refuseAll(message.body);
        break;
      case "objectData":
        this.onData(Number(message.body.request), message.body.missing, message.body.mayCome, payloads);
        break;
      case "objectPutReply":
      case "objectDeleteReply":
        this.onReply(Number(message.body.request), message.body.status, message.body.text);
        break;
      case "objectBatch":
        this.onBatch(message.body, payloads);
        break;
    }
  }

  private onWelcome(helloNumber: number, incarnation: Uint8Array): void {
    if (helloNumber !== this.helloNumber) {
      return;
    }
    this.isWelcomed = true;
    for (const [number, request] of this.pending) {
      if (request.isUnheard) {
        this.transmit(number, request);
      }
    }
    const known = this.incarnation;
    this.incarnation = incarnation;
    if (known !== null && Buffer.compare(known, incarnation) !== 0) {
      this.onChanged();
    }
  }

  private onData(number: number, isMissing: boolean, mayCome: boolean, buffers: Buffer[]): void {
    const request = this.pending.get(number);
    if (request?.kind !== "get") {
      return;
    }
    if (isMissing && mayCome && seconds() < request.comingUntil) {
      // Under another number, so that a late answer to this one does not end the wait.
      this.pending.delete(number);
      this.begin(request);
      return;
    }
    this.finish(number);
    if (isMissing) {
      request.reject(new StorageError("object storage does not have the value any more"));
    } else {
      request.resolve(buffers);
    }
  }

  private onReply(number: number, status: number, text: string): void {
    const request = this.pending.get(number);
    if (request === undefined) {
      return;
    }
    if (status === STORAGE_FULL && request.kind === "put") {
      // Room may come free until its time is over.
      request.refusal = text;
      request.due = seconds() + FULL_PAUSE_SECONDS;
      return;
    }
    this.finish(number);
    if (status === DONE) {
      request.resolve([]);
    } else {
      request.reject(new StorageError(`object storage refuses it: ${text}`));
    }
  }

  private onBatch(batch: ObjectBatch, payloads: Buffer[]): void {
    const requests = readU64(batch.requests);
    if (batch.kind === OF_PUT_REPLIES || batch.kind === OF_DELETE_REPLIES) {
      requests.forEach((number) => this.onReply(number, DONE, ""));
    } else if (batch.kind === OF_DATA && batch.places.length === 0) {
      const contents = split(readU32(batch.contentLengths), payloads[0] ?? Buffer.alloc(0));
      const counts = readU32(batch.bufferCounts);
      requests.forEach((number, row) => this.onData(number, false, false, contents.splice(0, counts[row] ?? 0)));
    }
  }

  private refuseAll(text: string): void {
    const requests = [...this.pending.keys()];
    for (const number of requests) {
      this.finish(number)?.reject(new StorageError(`object storage at ${this.address}: ${text}`));
    }
  }

  private finish(number: number): Request | undefined {
    const request = this.pending.get(number);
    this.pending.delete(number);
    if (request?.kind === "put") {
      this.windowBytes -= request.size;
      this.fillWindow();
    }
    return request;
  }
}

function seconds(): number {
  return performance.now() / 1000;
}
