/**
 * The connecting end of a session: exactly once and in order over a link that may lose messages. No I/O, no clock.
 *
 * The rules are those of `scaler_protocol.session`: a sequenced message has the next number and is kept until it is acknowledged;
 * every message acknowledges what has come in order; who misses a number asks for all after the last one it has; messages of
 * another epoch, which is the number of the hello that began the session, are dropped. Times are in seconds.
 */

import { encodeHeader, type Kind, type Message } from "./capnp.js";
import type { Bodies, Hello, Welcome } from "./layout.js";
import { type Envelope, type Incoming, RESEND, SEQUENCED, UNSEQUENCED } from "./wire.js";

const RESEND_INTERVAL = 1;
const ACKNOWLEDGE_MESSAGES = 64;
const ACKNOWLEDGE_BYTES = 4 * 1024 * 1024;
const HELLO_PAUSE = 1;

/** A message on its way out. A later one with the same `key` replaces it while it has not left. */
export interface Outgoing {
  readonly envelope: Envelope;
  readonly frames: readonly Buffer[];
  readonly key?: string;
}

/** What happened. `payloads` are the frames behind the header. */
export type SessionEvent =
  | { readonly event: "established"; readonly welcome: Welcome; readonly resumed: boolean }
  | { readonly event: "received"; readonly message: Message; readonly payloads: Buffer[] }
  | { readonly event: "refused"; readonly reason: string }
  | { readonly event: "lost"; readonly silent: number }
  | { readonly event: "broken"; readonly reason: string };

/** See the module. What is to be sent is in `outgoing`, in order. */
export class Session {
  outgoing: Outgoing[] = [];
  established = false;
  welcome: Welcome | null = null;
  private closed = false;
  private epoch = 0;
  private sent = 0;
  private received = 0;
  private unacknowledged: { readonly number: number; readonly frames: readonly Buffer[] }[] = [];
  private receivedSinceStamp = 0;
  private bytesSinceStamp = 0;
  private askedAt = Number.NEGATIVE_INFINITY;
  private helloNumber = 0;
  private helloAt = 0;
  private helloUnanswered = false;
  private heartbeatAt = 0;
  private heartbeatPause = 2;
  private silentSince = 0;
  private toldLost = false;
  private latency = 0;

  constructor(
    private readonly hello: Partial<Hello>,
    private readonly giveUpSeconds: number,
  ) {}

  start(now: number): void {
    this.silentSince = now;
    this.sayHello(now);
  }

  /** How many sequenced messages the other end has not acknowledged. */
  get unacknowledgedCount(): number {
    return this.unacknowledged.length;
  }

  /** Send a message that must not be lost. Only while established. */
  send<K extends Kind>(kind: K, body: Partial<Bodies[K]> | Bodies[K], payloads: readonly Buffer[] = []): void {
    const frames = [encodeHeader(kind, body as never), ...payloads];
    this.sent += 1;
    this.unacknowledged.push({ number: this.sent, frames });
    this.outgoing.push({ envelope: this.stamp(SEQUENCED), frames });
  }

  /** Say goodbye. Nothing is sent or taken in after it. */
  close(reason: string): void {
    if (this.closed) {
      return;
    }
    const frames = [encodeHeader("goodbye", reason)];
    if (this.established) {
      this.outgoing.push({ envelope: this.stamp(0), frames });
    }
    if (this.helloUnanswered) {
      // The other end may have begun a session with this hello.
      this.outgoing.push({ envelope: { ...UNSEQUENCED, epoch: this.helloNumber }, frames });
    }
    this.closed = true;
    this.established = false;
  }

  receive(incoming: Incoming, now: number): SessionEvent[] {
    const { envelope, message } = incoming;
    if (this.closed) {
      return [];
    }
    if (message?.kind === "welcome") {
      return this.onWelcome(envelope, message.body, now);
    }
    if (message?.kind === "refused") {
      this.closed = true;
      this.established = false;
      return [{ event: "refused", reason: message.body }];
    }
    if (message?.kind === "unknownPeer") {
      this.heard(now);
      // Every message in transit is answered like this: one hello is enough for all.
      if (!this.helloUnanswered) {
        this.sayHello(now);
      }
      return [];
    }
    if (!this.established || envelope.epoch !== this.epoch) {
      return [];
    }
    this.heard(now);
    if (envelope.acknowledged > this.sent) {
      this.closed = true;
      this.established = false;
      return [{ event: "broken", reason: `it acknowledges message ${envelope.acknowledged} of ${this.sent}` }];
    }
    const isNew = this.accept(envelope, incoming.bytes, now);
    if (!isNew || message === null) {
      return [];
    }
    if (message.kind === "heartbeat") {
      if (message.body.echoSeconds > 0) {
        this.latency = Math.max(0, now - message.body.echoSeconds);
      }
      return [];
    }
    return [{ event: "received", message, payloads: incoming.payloads }];
  }

  /** Do what is due. To be called several times a second. */
  tick(now: number): SessionEvent[] {
    if (this.closed) {
      return [];
    }
    const events: SessionEvent[] = [];
    const silent = now - this.silentSince;
    if (silent >= this.giveUpSeconds && !this.toldLost) {
      this.toldLost = true;
      events.push({ event: "lost", silent });
    }
    if (now >= this.helloDue()) {
      this.sayHello(now);
    }
    if (this.established && now >= this.heartbeatAt + this.heartbeatPause) {
      this.heartbeatAt = now;
      this.sendHeartbeat(0, now);
    }
    return events;
  }

  private accept(envelope: Envelope, bytes: number, now: number): boolean {
    this.forget(envelope.acknowledged);
    let isNew = true;
    if (envelope.flags & SEQUENCED) {
      isNew = envelope.sequence === this.received + 1;
      if (isNew) {
        this.received = envelope.sequence;
        this.bytesSinceStamp += bytes;
      }
      this.receivedSinceStamp += 1;
    }
    if (envelope.sequence > this.received && now >= this.askedAt + RESEND_INTERVAL) {
      this.askedAt = now;
      this.sendHeartbeat(RESEND, now);
    }
    if (envelope.flags & RESEND) {
      this.resend();
    } else if (this.receivedSinceStamp >= ACKNOWLEDGE_MESSAGES || this.bytesSinceStamp >= ACKNOWLEDGE_BYTES) {
      this.sendHeartbeat(0, now);
    }
    return isNew;
  }

  private onWelcome(envelope: Envelope, welcome: Welcome, now: number): SessionEvent[] {
    if (welcome.helloNumber !== this.helloNumber || !this.helloUnanswered) {
      return [];
    }
    this.helloUnanswered = false;
    this.heard(now);
    const resumed =
      welcome.resumed && this.welcome !== null && Buffer.compare(this.welcome.incarnation, welcome.incarnation) === 0;
    if (resumed) {
      this.forget(envelope.acknowledged);
      this.resend();
    } else {
      this.epoch = welcome.helloNumber;
      this.sent = this.received = this.receivedSinceStamp = this.bytesSinceStamp = 0;
      this.unacknowledged = [];
      this.askedAt = Number.NEGATIVE_INFINITY;
      this.heartbeatAt = now;
    }
    this.welcome = welcome;
    if (welcome.heartbeatSeconds > 0) {
      this.heartbeatPause = Math.min(2, welcome.heartbeatSeconds);
    }
    this.established = true;
    return [{ event: "established", welcome, resumed }];
  }

  private forget(acknowledged: number): void {
    let count = 0;
    while (count < this.unacknowledged.length && this.unacknowledged[count]!.number <= acknowledged) {
      count += 1;
    }
    this.unacknowledged.splice(0, count);
  }

  private resend(): void {
    for (const { number, frames } of this.unacknowledged) {
      this.outgoing.push({ envelope: { ...this.stamp(SEQUENCED), sequence: number }, frames });
    }
  }

  private heard(now: number): void {
    this.silentSince = now;
    this.toldLost = false;
  }

  private helloDue(): number {
    if (!this.established) {
      return this.helloAt + Math.min(HELLO_PAUSE, this.heartbeatPause);
    }
    return this.helloUnanswered ? this.helloAt + this.heartbeatPause : this.silentSince + 2 * this.heartbeatPause;
  }

  private sayHello(now: number): void {
    this.helloNumber += 1;
    this.helloAt = now;
    this.helloUnanswered = true;
    const hello = {
      ...this.hello,
      schedulerIncarnation: this.welcome?.incarnation ?? Buffer.alloc(0),
      helloNumber: this.helloNumber,
    };
    const envelope = this.welcome === null ? UNSEQUENCED : this.stamp(0);
    this.outgoing.push({ envelope, frames: [encodeHeader("hello", hello)], key: "hello" });
  }

  private sendHeartbeat(flags: number, now: number): void {
    const frames = [encodeHeader("heartbeat", { sentAtSeconds: now, latencySeconds: this.latency })];
    const envelope = this.stamp(flags);
    this.outgoing.push(flags ? { envelope, frames } : { envelope, frames, key: "heartbeat" });
  }

  private stamp(flags: number): Envelope {
    this.receivedSinceStamp = this.bytesSinceStamp = 0;
    return { sequence: this.sent, acknowledged: this.received, flags, epoch: this.epoch };
  }
}
