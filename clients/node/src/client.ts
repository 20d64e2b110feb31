/** The client: tasks, the batches they leave in, and their answers. */

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";

import { blake2b } from "@noble/hashes/blake2.js";

import {
  CancelledError,
  ClientClosedError,
  ConnectionRefusedError,
  DisconnectedError,
  PlainDataError,
  QueueFullError,
  RemoteTaskError,
  type ScalerError,
  STATUSES,
  TaskEndedError,
} from "./errors.js";
import type { Hello, ResultBatch, Welcome } from "./layout.js";
import {
  AGAIN_TASKS,
  BATCH_TASKS,
  CANCEL_TASKS,
  CLOSE_MILLISECONDS,
  ENDED_MILLISECONDS,
  GOODBYE_GRACE_SECONDS,
  INLINE_BYTES,
  TICK_MILLISECONDS,
} from "./limits.js";
import { type Keys, Link } from "./link.js";
import { encodeRecord, joinRecords, type SubmitOptions } from "./options.js";
import { readOutput, showOutput, type TaskOutput } from "./output.js";
import { dumpPlain, parsePlain, plainText } from "./plain.js";
import { Session, type SessionEvent } from "./session.js";
import { Storage } from "./storage.js";
import {
  fillArguments,
  inputMark,
  type NamedFunction,
  takeBatch,
  type Task,
  type TaskPromise,
  textToKeep,
} from "./task.js";
import {
  decode,
  PROTOCOL_VERSION,
  readU32,
  readU64,
  SOFTWARE_VERSION,
  split,
  writeU16,
  writeU32,
  writeU64,
} from "./wire.js";
import { z85Decode } from "./z85.js";

/** What `Client.connect` takes besides the address. */
export interface ConnectOptions {
  /** For people who watch the cluster. */
  readonly name?: string;
  /** How long a scheduler may be silent before `connect` fails and unanswered tasks are rejected. 60 by default. */
  readonly timeoutSeconds?: number;
  /** The most unanswered tasks; `submit` throws QueueFullError beyond it. 100,000 by default. */
  readonly queueLimit?: number;
  /** For a cluster with keys. */
  readonly keys?: Keys;
  /** Gets what the scheduler has to say to people. By default warnings go to the console. */
  readonly onNotice?: (text: string, isWarning: boolean) => void;
  /** Whether what tasks print and log is written to the standard streams of this process, while they run. */
  readonly streamOutput?: boolean;
  /** Gets what tasks print and log instead. */
  readonly onOutput?: (output: TaskOutput) => void;
}

export interface MapOptions extends SubmitOptions {
  /** The most tasks in flight at a time. 1,000 by default. */
  readonly inFlight?: number;
}

type KeywordArguments = Readonly<Record<string, unknown>>;

const ROLE_CLIENT = 0;
const STREAM_OUTPUT = 2;
const REANNOUNCED = 4;
const SUCCESS = 0;
const FAILED = 1;
const CANCELED = 2;
const SKIPPED = 10;
/** No answer: says how often the task has failed that is tried again. */
const RETRY = 13;
const ID_BYTES = 16;

const PLAIN = "J".charCodeAt(0);
const OBJECT = "O".charCodeAt(0);
const FRAMED = "F".charCodeAt(0);

const NOTHING = Buffer.alloc(0);

/** See `Client.connect`. */
export class Client {
  private readonly id: Buffer;
  private readonly session: Session;
  private readonly link: Link;
  private readonly hello: Partial<Hello>;
  private readonly timeoutSeconds: number;
  private readonly queueLimit: number;
  private readonly functions = new Map<string, NamedFunction>();
  private defined = new Set<NamedFunction>();
  /** By number, ascending. */
  private readonly tasks = new Map<number, Task>();
  private readonly byPromise = new WeakMap<Promise<unknown>, Task>();
  private readonly flags: number;
  private pending: Task[] = [];
  private cancelled: number[] = [];
  private lastNumber = 0;
  private credit = Number.POSITIVE_INFINITY;
  private creditAsked = 0;
  private storage: Storage | null = null;
  private storageAddress = "";
  private isFlushDue = false;
  private isRoomDue = false;
  private unusable: ScalerError | null = null;
  private isClosed = false;
  private goodbye: { readonly due: number; readonly text: string } | null = null;
  private readonly timer: NodeJS.Timeout;
  private readonly waitingForRoom: { resolve: () => void; reject: (error: Error) => void }[] = [];
  private onConnected: { resolve: () => void; reject: (error: Error) => void } | null = null;

  private constructor(
    readonly address: string,
    private readonly options: ConnectOptions,
  ) {
    this.timeoutSeconds = options.timeoutSeconds ?? 60;
    this.queueLimit = options.queueLimit ?? 100_000;
    this.id = randomBytes(ID_BYTES);
    if (options.keys !== undefined) {
      // With keys, an identity begins with the fingerprint of its owner's key.
      this.id.set(blake2b(z85Decode(options.keys.publicKey), { dkLen: 8 }));
    }
    const streamsOutput = options.onOutput !== undefined || (options.streamOutput ?? false);
    this.flags = streamsOutput ? STREAM_OUTPUT : 0;
    this.hello = {
      role: ROLE_CLIENT,
      protocolVersion: PROTOCOL_VERSION,
      softwareVersion: `${SOFTWARE_VERSION} (Node ${process.versions.node})`,
      // Without a name, the one that the scheduler knows to be nobody's choice.
      name: options.name ?? `client|${hostname()}|${process.pid}`,
      incarnation: this.id,
      hostname: hostname(),
      pid: process.pid,
      timeoutSeconds: this.timeoutSeconds,
      streamOutput: streamsOutput,
    };
    this.session = new Session(this.hello, this.timeoutSeconds);
    this.link = new Link(address, this.id, options.keys, (frames) => this.receive(frames));
    this.session.start(seconds());
    this.sendOutgoing();
    this.timer = setInterval(() => this.tick(), TICK_MILLISECONDS);
  }

  /**
   * Connect to the scheduler at an address, "tcp://host:port".
   *
   * Rejects with ConnectionRefusedError if the scheduler refuses this client (another version of the protocol, say), and with
   * DisconnectedError if none answers in `timeoutSeconds`.
   */
  static async connect(address: string, options: ConnectOptions = {}): Promise<Client> {
    let client: Client;
    try {
      client = new Client(address, options);
    } catch (error) {
      throw new DisconnectedError(`cannot connect to ${JSON.stringify(address)}: ${(error as Error).message}`);
    }
    try {
      await new Promise<void>((resolve, reject) => (client.onConnected = { resolve, reject }));
    } catch (error) {
      await client.close();
      throw error;
    }
    return client;
  }

  /** How many tasks are not answered. */
  get unansweredCount(): number {
    return this.tasks.size;
  }

  /**
   * Call a Python function, "package.module:function", with plain data; see the README for what that is.
   *
   * What `submit` has returned stands for its result, anywhere in the arguments. The task runs once these results are there. If
   * one of those tasks fails or is cancelled, so does this one, with the same error.
   *
   * Throws PlainDataError for arguments that are none, QueueFullError where too many tasks are unanswered, ClientClosedError
   * after `close`, DisconnectedError while there is no scheduler, and TypeError or RangeError for options that are impossible. The
   * promise is rejected with RemoteTaskError if the function raises, and with another ScalerError if the task ends otherwise.
   */
  submit<T = unknown>(
    name: string,
    args: readonly unknown[] = [],
    kwargs: KeywordArguments = {},
    options: SubmitOptions = {},
  ): TaskPromise<T> {
    if (this.unusable !== null) {
      throw this.unusable;
    }
    if (this.tasks.size >= this.queueLimit) {
      throw new QueueFullError(
        `${this.tasks.size} tasks are unanswered, as many as queueLimit permits: wait for ready()`,
      );
    }
    const called = this.functionNamed(name);
    const record = encodeRecord(options);
    const inputs: Task[] = [];
    const template = dumpPlain([[...args], { ...kwargs }], (promise) => this.inputOf(promise, inputs));
    let task!: Task;
    const promise: Promise<T> = new Promise<T>((resolve, reject) => {
      task = {
        number: (this.lastNumber += 1),
        function: called,
        capabilities: options.capabilities ?? [],
        options: record,
        label: options.label ?? "",
        promise: undefined,
        resolve: resolve as (value: unknown) => void,
        reject,
        hush: () => void promise.catch(() => undefined),
        payload: NOTHING,
        object: null,
        storing: null,
        hasLeft: false,
        isAnswered: false,
        value: undefined,
        text: null,
        error: null,
        inputs,
        template: inputs.length > 0 ? template : "",
        earlier: [],
        missing: new Set(),
        dependents: new Set(),
        keptResult: null,
      };
    });
    const returned = Object.assign(promise, {
      cancel: () => {
        this.cancel(task);
      },
    });
    task.promise = returned;
    this.byPromise.set(returned, task);
    this.tasks.set(task.number, task);
    if (inputs.length > 0) {
      for (const input of inputs) {
        // Whoever waits for this task learns of its failure.
        input.hush();
        if (!input.isAnswered) {
          input.dependents.add(task);
        }
      }
      this.submitLinked(task);
    } else {
      this.send(task, template);
    }
    return returned;
  }

  /**
   * Call a function for each item, with the item as only argument, and yield the results in the order of the items.
   *
   * Only so many tasks are in flight as `inFlight` says: items may be endless, and may come from an async generator. When one
   * fails or the loop is left, what is in flight is cancelled.
   */
  async *imap<T = unknown>(
    name: string,
    items: Iterable<unknown> | AsyncIterable<unknown>,
    options: MapOptions = {},
  ): AsyncGenerator<T, void, undefined> {
    const inFlight = Math.max(1, options.inFlight ?? 1000);
    const running: TaskPromise<T>[] = [];
    try {
      for await (const item of items) {
        if (running.length >= inFlight) {
          yield await running[0]!;
          void running.shift();
        }
        await this.ready();
        const promise = this.submit<T>(name, [item], {}, options);
        // It may fail before its turn.
        promise.catch(() => undefined);
        running.push(promise);
      }
      while (running.length > 0) {
        yield await running[0]!;
        void running.shift();
      }
    } finally {
      running.forEach((promise) => promise.cancel());
    }
  }

  /** As `imap`, with an array of all results. */
  async map<T = unknown>(
    name: string,
    items: Iterable<unknown> | AsyncIterable<unknown>,
    options: MapOptions = {},
  ): Promise<T[]> {
    const results: T[] = [];
    for await (const result of this.imap<T>(name, items, options)) {
      results.push(result);
    }
    return results;
  }

  /** Wait until one more task may be submitted. */
  async ready(): Promise<void> {
    while (this.unusable === null && this.tasks.size >= this.queueLimit) {
      await new Promise<void>((resolve, reject) => this.waitingForRoom.push({ resolve, reject }));
    }
    if (this.unusable !== null) {
      throw this.unusable;
    }
  }

  /** Leave the cluster. Unanswered tasks are cancelled, and their promises rejected with ClientClosedError. */
  async close(): Promise<void> {
    if (this.isClosed) {
      return;
    }
    this.end(new ClientClosedError("the client was closed"));
    clearInterval(this.timer);
    this.session.close("the client was closed");
    this.sendOutgoing();
    const wait = this.session.welcome === null ? 0 : CLOSE_MILLISECONDS;
    await Promise.all([this.link.close(wait), this.storage?.close("the client was closed", wait)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // --- tasks on their way out

  private functionNamed(name: string): NamedFunction {
    let known = this.functions.get(name);
    if (known === undefined) {
      if (!/^[^:\s]+:[^:\s]+$/u.test(name)) {
        throw new PlainDataError(`${JSON.stringify(name)} does not name a function: write "package.module:function"`);
      }
      const body = Buffer.from(`J${name}`, "utf8");
      known = { id: Buffer.from(blake2b(body, { dkLen: ID_BYTES })), body, name: name.replace(":", ".") };
      this.functions.set(name, known);
    }
    return known;
  }

  /** Return the mark of a promise among arguments; undefined if it is not of a task of this client. */
  private inputOf(promise: Promise<unknown>, inputs: Task[]): unknown {
    const input = this.byPromise.get(promise);
    if (input === undefined) {
      return undefined;
    }
    const known = inputs.indexOf(input);
    return inputMark(known < 0 ? inputs.push(input) - 1 : known);
  }

  /** Submit a task with results of others among its arguments, or reject it where one of these will not come. */
  private submitLinked(task: Task): void {
    const failed = task.inputs.find((input) => input.error !== null);
    if (failed !== undefined) {
      this.finish(task, failed.error);
      return;
    }
    try {
      const { json, earlier } = fillArguments(task);
      task.earlier = earlier;
      this.send(task, json);
    } catch (error) {
      this.finish(task, error as Error);
    }
  }

  private send(task: Task, json: string): void {
    task.payload = Buffer.from(`J${json}`, "utf8");
    const before = task.earlier.flatMap(({ storing }) => storing ?? []);
    if (task.payload.length <= INLINE_BYTES && before.length === 0) {
      this.enqueue(task);
      return;
    }
    if (task.payload.length > INLINE_BYTES) {
      before.push(this.storeArguments(task));
    }
    // The scheduler must know those that it needs. These promises are never rejected.
    task.storing = Promise.all(before).then(() => {
      task.storing = null;
      if (!task.isAnswered) {
        this.enqueue(task);
      }
    });
  }

  /** Have large arguments stored; the task ends where that fails. */
  private async storeArguments(task: Task): Promise<void> {
    const id = randomBytes(ID_BYTES);
    const content = task.payload;
    task.object = { id, content };
    task.payload = Buffer.concat([Buffer.of(OBJECT), id]);
    let isStored = false;
    while (!isStored && !task.isAnswered) {
      const { storage } = this;
      try {
        await this.storageOf("the arguments are too large for a message").put(id, [content]);
        isStored = true;
      } catch (error) {
        // Unless the scheduler has named another server meanwhile.
        if (this.storage === storage) {
          this.finish(task, error as Error);
        }
      }
    }
    if (isStored && task.isAnswered) {
      this.storage?.delete([id]);
    }
  }

  private storageOf(why: string): Storage {
    if (this.storage === null) {
      throw new TaskEndedError("storageFailed", `${why}, and the cluster has no object storage`);
    }
    return this.storage;
  }

  private enqueue(task: Task): void {
    this.pending.push(task);
    this.flushSoon();
  }

  private flushSoon(): void {
    if (!this.isFlushDue) {
      this.isFlushDue = true;
      // What the program submits in one go leaves in one message.
      setImmediate(() => this.flush());
    }
  }

  private flush(): void {
    this.isFlushDue = false;
    if (!this.session.established) {
      return;
    }
    this.pending = this.pending.filter((task) => !task.isAnswered);
    this.askCredit();
    while (this.pending.length > 0 && this.credit > 0) {
      const batch = takeBatch(this.pending, Math.min(BATCH_TASKS, this.credit));
      this.credit -= batch.length;
      this.sendBatch(batch, 0);
    }
    while (this.cancelled.length > 0) {
      const numbers = writeU64(this.cancelled.splice(0, CANCEL_TASKS));
      this.session.send("taskCancel", { client: this.id, numbers });
    }
    this.sendOutgoing();
  }

  private askCredit(): void {
    const missing = this.pending.length - this.credit;
    if (missing > this.creditAsked) {
      this.creditAsked = missing;
      this.session.send("creditRequest", missing);
    }
  }

  private sendBatch(tasks: readonly Task[], flags: number): void {
    const functions = [...new Set(tasks.map((task) => task.function))];
    const unknown = functions.filter((each) => !this.defined.has(each));
    if (unknown.length > 0) {
      const body = {
        ids: Buffer.concat(unknown.map((each) => each.id)),
        lengths: writeU32(unknown.map((each) => each.body.length)),
        client: this.id,
        names: unknown.map((each) => each.name),
      };
      this.session.send("functionDefine", body, [Buffer.concat(unknown.map((each) => each.body))]);
      unknown.forEach((each) => this.defined.add(each));
    }
    const [linked] = tasks;
    if (linked !== undefined && linked.earlier.length > 0) {
      this.sendLinked(linked, flags);
      return;
    }
    const positions = new Map(functions.map((each, index) => [each, index]));
    const stored = tasks.flatMap((task, row) => (task.object === null ? [] : [{ row, object: task.object }]));
    const body = {
      client: this.id,
      numbers: writeU64(tasks.map((task) => task.number)),
      functions: Buffer.concat(functions.map((each) => each.id)),
      functionIndexes:
        functions.length === 1 ? Buffer.alloc(0) : writeU16(tasks.map((task) => positions.get(task.function) ?? 0)),
      payloadLengths: writeU32(tasks.map((task) => task.payload.length)),
      flags: this.flags | flags,
      capabilities: capabilitiesOf(linked),
      objectPositions: writeU32(stored.map(({ row }) => row)),
      objects: Buffer.concat(stored.map(({ object }) => object.id)),
      objectSizes: writeU64(stored.map(({ object }) => object.content.length)),
      options: joinRecords(tasks.map((task) => task.options)),
    };
    this.session.send("taskBatch", body, [Buffer.concat(tasks.map((task) => task.payload))]);
    tasks.forEach((task) => (task.hasLeft = true));
  }

  /** Send a task that needs results of others: a row of a graph, which is held back until they are there. */
  private sendLinked(task: Task, flags: number): void {
    const { object, earlier } = task;
    const body = {
      client: this.id,
      firstNumber: BigInt(task.number),
      functions: task.function.id,
      payloadLengths: writeU32([task.payload.length]),
      dependencyCounts: writeU32([earlier.length]),
      // Of a graph of one row, 1 is the first of `earlier`.
      dependencies: writeU32(earlier.map((_, index) => 1 + index)),
      wanted: writeU32([0]),
      capabilities: capabilitiesOf(task),
      flags: this.flags | flags,
      objectPositions: writeU32(object === null ? [] : [0]),
      objects: object === null ? NOTHING : object.id,
      objectSizes: writeU64(object === null ? [] : [object.content.length]),
      earlier: writeU64(earlier.map(({ number }) => number)),
      options: joinRecords([task.options]),
    };
    this.session.send("graphSubmit", body, [task.payload]);
    task.hasLeft = true;
  }

  /** The scheduler does not know these tasks any more: submit one that needs them again, with their values once they are here. */
  private submitAgain(task: Task, unknown: ReadonlySet<number>): void {
    task.hasLeft = false;
    for (const input of task.earlier) {
      if (unknown.has(input.number) && !input.isAnswered) {
        task.missing.add(input);
      }
    }
    if (task.missing.size === 0) {
      this.renew(task);
    }
  }

  /** Submit a task under another number: each is used once. */
  private renew(task: Task): void {
    if (task.isAnswered) {
      return;
    }
    if (task.object !== null) {
      this.storage?.delete([task.object.id]);
      task.object = null;
    }
    this.tasks.delete(task.number);
    task.number = this.lastNumber += 1;
    this.tasks.set(task.number, task);
    this.submitLinked(task);
  }

  private cancel(task: Task): void {
    if (!task.isAnswered) {
      // Whoever cancels does not need to wait for it.
      task.hush();
      this.finish(task, new CancelledError("the task was cancelled"));
    }
    this.stop(task);
  }

  /** Stop a task wherever it is, whose answer nobody wants any more. */
  private stop(task: Task): void {
    if (task.hasLeft) {
      task.hasLeft = false;
      this.cancelled.push(task.number);
      this.flushSoon();
    }
  }

  /** A task ends, with an error or with its value: forget it, and tell whoever waits. */
  private finish(task: Task, error: Error | null): void {
    if (task.isAnswered) {
      return;
    }
    task.isAnswered = true;
    task.error = error;
    this.tasks.delete(task.number);
    task.payload = NOTHING;
    if (task.object !== null) {
      this.storage?.delete([task.object.id]);
      task.object = null;
    }
    if (error === null) {
      task.resolve(task.value);
    } else {
      task.reject(error);
    }
    for (const input of task.inputs) {
      input.dependents.delete(task);
      this.freeResult(input);
    }
    for (const dependent of task.dependents) {
      if (dependent.missing.delete(task) && dependent.missing.size === 0) {
        // Not from here: of a long chain, each task would be a call deeper than the one before.
        queueMicrotask(() => this.renew(dependent));
      }
    }
    this.offerRoomSoon();
  }

  /** Delete the object with a result that is read, once no task needs it. */
  private freeResult(task: Task): void {
    if (task.keptResult !== null && task.dependents.size === 0) {
      this.storage?.delete([task.keptResult]);
      task.keptResult = null;
    }
  }

  private offerRoomSoon(): void {
    if (!this.isRoomDue && this.waitingForRoom.length > 0) {
      this.isRoomDue = true;
      setImmediate(() => this.offerRoom());
    }
  }

  /** Wake as many as there is room for. Whoever has given up takes none: the next ones are woken after their turn. */
  private offerRoom(): void {
    this.isRoomDue = false;
    const room = this.queueLimit - this.tasks.size;
    if (room > 0) {
      this.waitingForRoom.splice(0, room).forEach(({ resolve }) => resolve());
      this.offerRoomSoon();
    }
  }

  // --- what arrives

  private receive(frames: Buffer[]): void {
    try {
      for (const event of this.session.receive(decode(frames), seconds())) {
        this.onEvent(event);
      }
    } catch (error) {
      this.session.close("it sends what cannot be read");
      this.end(new DisconnectedError(`the scheduler at ${this.address} sends what cannot be read: ${String(error)}`));
    }
    this.sendOutgoing();
  }

  private tick(): void {
    const now = seconds();
    for (const event of this.session.tick(now)) {
      this.onEvent(event);
    }
    if (this.goodbye !== null && now >= this.goodbye.due) {
      const { text } = this.goodbye;
      this.goodbye = null;
      this.disconnect(`the scheduler at ${this.address} has ended the session: ${text}`);
    }
    const { downSince } = this.link;
    if (this.session.welcome?.endsCluster && downSince !== null && Date.now() >= downSince + ENDED_MILLISECONDS) {
      this.disconnect(`the cluster of the scheduler at ${this.address} has ended: it cannot be reached any more`);
    }
    this.storage?.tick();
    this.sendOutgoing();
  }

  private onEvent(event: SessionEvent): void {
    switch (event.event) {
      case "established":
        this.onEstablished(event.welcome, event.resumed);
        break;
      case "refused":
        this.end(new ConnectionRefusedError(`the scheduler at ${this.address} refuses this client: ${event.reason}`));
        break;
      case "broken":
        this.end(new DisconnectedError(`the scheduler at ${this.address} breaks the protocol: ${event.reason}`));
        break;
      case "lost":
        this.disconnect(`no answer from the scheduler at ${this.address} for ${event.silent.toFixed(1)} s`);
        break;
      case "received":
        this.onMessage(event);
    }
  }

  private onMessage({ message, payloads }: SessionEvent & { event: "received" }): void {
    switch (message.kind) {
      case "resultBatch":
        this.onResults(message.body, payloads[0] ?? Buffer.alloc(0));
        break;
      case "creditGrant":
        this.credit += message.body;
        this.creditAsked = Math.max(0, this.creditAsked - message.body);
        this.flushSoon();
        break;
      case "output": {
        const task = this.tasks.get(Number(message.body.number));
        const known = { label: task?.label ?? "", task: task?.promise };
        const { stream, droppedBytes } = message.body;
        const show = this.options.onOutput ?? showOutput;
        for (const output of readOutput(stream, payloads[0] ?? NOTHING, Number(droppedBytes), known)) {
          // An error of the program's is not one of this connection.
          queueMicrotask(() => show(output));
        }
        break;
      }
      case "notice":
        this.notice(message.body.text, message.body.level > 0);
        break;
      case "shutdown":
        this.disconnect(`the cluster of the scheduler at ${this.address} has ended: ${message.body}`);
        break;
      case "goodbye":
        this.goodbye = { due: seconds() + Math.min(GOODBYE_GRACE_SECONDS, this.timeoutSeconds), text: message.body };
        break;
    }
  }

  private notice(text: string, isWarning: boolean): void {
    const { onNotice } = this.options;
    if (onNotice !== undefined) {
      queueMicrotask(() => onNotice(text, isWarning));
    } else if (isWarning) {
      console.warn(`scaler: ${text}`);
    }
  }

  private onEstablished(welcome: Welcome, resumed: boolean): void {
    this.goodbye = null;
    if (!this.isClosed) {
      this.unusable = null;
    }
    this.link.clear();
    if (!resumed) {
      // A scheduler that knows nothing of this client: it is told of everything that is not answered.
      const left = [...this.tasks.values()].filter((task) => task.hasLeft);
      this.defined = new Set();
      this.cancelled = [];
      this.creditAsked = 0;
      this.credit = welcome.taskCredit < 0n ? Number.POSITIVE_INFINITY : Number(welcome.taskCredit);
      while (left.length > 0) {
        this.sendBatch(takeBatch(left, AGAIN_TASKS), REANNOUNCED);
      }
    }
    this.connectStorage(welcome.objectStorageAddress);
    this.flushSoon();
    this.onConnected?.resolve();
    this.onConnected = null;
  }

  private connectStorage(address: string): void {
    if (address === this.storageAddress) {
      return;
    }
    void this.storage?.close("the cluster uses another object storage server now", 0);
    this.storageAddress = address;
    const again = () => {
      for (const { object } of this.tasks.values()) {
        if (object !== null) {
          this.storage?.put(object.id, [object.content]).catch(() => undefined);
        }
      }
    };
    const hadStorage = this.storage !== null;
    this.storage = address === "" ? null : new Storage(address, this.id, this.hello, this.options.keys, again);
    if (hadStorage) {
      again();
    }
  }

  private onResults(batch: ResultBatch, frame: Buffer): void {
    const payloads = split(readU32(batch.payloadLengths), frame);
    // A large failure may be that of several tasks, of which one needs the next.
    const stored = new Map<string, { readonly object: Buffer; readonly status: number; readonly tasks: Task[] }>();
    readU64(batch.numbers).forEach((number, row) => {
      const task = this.tasks.get(number);
      const payload = payloads[row] ?? NOTHING;
      const status = batch.statuses[row] ?? SUCCESS;
      const isOfFunction = status === SUCCESS || status === FAILED;
      if (isOfFunction && payload[0] === OBJECT && payload.length === 1 + ID_BYTES) {
        const object = Buffer.from(payload.subarray(1));
        const answer = stored.get(object.toString("hex")) ?? { object, status, tasks: [] };
        stored.set(object.toString("hex"), answer);
        // Without a task it was cancelled: nobody wants the answer.
        answer.tasks.push(...(task === undefined ? [] : [task]));
      }
      if (task === undefined || status === RETRY) {
        return;
      }
      task.hasLeft = false;
      if (status === SKIPPED && task.earlier.length > 0) {
        this.submitAgain(task, new Set(readU64(payload)));
      } else if (!isOfFunction) {
        const text = payload.toString("utf8");
        const name = STATUSES[status] ?? "unknown";
        const error =
          status === CANCELED
            ? new CancelledError(text === "" ? "the task was cancelled" : text)
            : new TaskEndedError(name, text);
        this.finish(task, error);
      } else if (payload[0] !== OBJECT) {
        this.answer([task], status, payload);
      }
    });
    for (const { object, status, tasks } of stored.values()) {
      void this.fetchAnswer(tasks, status, object);
    }
  }

  private async fetchAnswer(tasks: readonly Task[], status: number, object: Buffer): Promise<void> {
    if (tasks.length === 0) {
      this.storage?.delete([object]);
      return;
    }
    try {
      const [header = NOTHING] = await this.storageOf("the result is too large for a message").get(object);
      for (const task of tasks) {
        task.keptResult = object;
      }
      this.answer(tasks, status, header[0] === FRAMED ? header.subarray(1) : header);
    } catch (error) {
      tasks.forEach((task) => this.finish(task, error as Error));
    }
    tasks.forEach((task) => this.freeResult(task));
  }

  private answer(tasks: readonly Task[], status: number, payload: Buffer): void {
    let error: Error | null = null;
    let value: unknown;
    let text: string | null = null;
    try {
      if (payload[0] !== PLAIN) {
        throw new PlainDataError("the answer is not plain data: the workers are of a version that does not know it");
      }
      text = plainText(payload.subarray(1));
      value = parsePlain(text);
    } catch (caught) {
      error = caught as Error;
    }
    if (error === null && status === FAILED) {
      const failure = value as { type?: string; text?: string; traceback?: string };
      error = new RemoteTaskError(failure.type ?? "Exception", failure.text ?? "", failure.traceback ?? "");
    }
    for (const task of tasks) {
      if (error === null && !task.isAnswered) {
        task.value = value;
        task.text = textToKeep(text!);
      }
      this.finish(task, error);
    }
  }

  // --- ends

  /** There is no scheduler for now: reject all tasks. A scheduler that answers again is welcome. */
  private disconnect(text: string): void {
    if (this.unusable === null) {
      this.rejectAll(new DisconnectedError(text), false);
    }
  }

  /** Nothing more will come of this client. */
  private end(error: ScalerError): void {
    if (!this.isClosed) {
      this.isClosed = error instanceof ClientClosedError;
      this.rejectAll(error, this.isClosed);
    }
  }

  private rejectAll(error: ScalerError, isWanted: boolean): void {
    this.unusable = error;
    for (const task of [...this.tasks.values()]) {
      // Of a client that is closed on purpose nobody needs to wait for each task.
      if (isWanted) {
        task.hush();
      }
      this.finish(task, error);
      this.stop(task);
    }
    this.pending = [];
    this.waitingForRoom.splice(0).forEach(({ reject }) => reject(error));
    this.onConnected?.reject(error);
    this.onConnected = null;
  }

  private sendOutgoing(): void {
    const { outgoing } = this.session;
    if (outgoing.length > 0) {
      this.session.outgoing = [];
      this.link.send(outgoing);
    }
  }
}

function capabilitiesOf(task: Task | undefined): { name: string; value: bigint }[] {
  return (task?.capabilities ?? []).map((name) => ({ name, value: -1n }));
}

function seconds(): number {
  return performance.now() / 1000;
}
