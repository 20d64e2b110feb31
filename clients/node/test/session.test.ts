/** The session against another end that loses messages, restarts, and breaks the rules. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { decodeHeader, encodeHeader, type Kind, type Message } from "../src/capnp.js";
import { type Outgoing, Session, type SessionEvent } from "../src/session.js";
import { type Envelope, RESEND, SEQUENCED } from "../src/wire.js";

/** The scheduler's end, as much as these tests need. */
class Peer {
  readonly session = new Session({ name: "a test" }, 60);
  readonly got: Message[] = [];
  readonly events: SessionEvent[] = [];
  now = 0;
  incarnation = Buffer.alloc(16, 1);
  epoch = 0;
  sent = 0;
  received = 0;

  constructor() {
    this.session.start(this.now);
  }

  /** Take what the session sends; those for which `loses` is true do not arrive. */
  take(loses: (message: Message) => boolean = () => false): Envelope[] {
    const envelopes: Envelope[] = [];
    const outgoing: Outgoing[] = this.session.outgoing.splice(0);
    for (const { envelope, frames } of outgoing) {
      const message = decodeHeader(frames[0]!)!;
      if (loses(message)) {
        continue;
      }
      envelopes.push(envelope);
      if (envelope.flags & SEQUENCED) {
        if (envelope.epoch !== this.epoch || envelope.sequence !== this.received + 1) {
          continue;
        }
        this.received += 1;
      }
      this.got.push(message);
    }
    return envelopes;
  }

  say<K extends Kind>(kind: K, body: object | string | number | null, flags = 0, more: Partial<Envelope> = {}): void {
    if (flags & SEQUENCED) {
      this.sent += 1;
    }
    const envelope = { sequence: this.sent, acknowledged: this.received, flags, epoch: this.epoch, ...more };
    const message = decodeHeader(encodeHeader(kind, body as never));
    this.events.push(...this.session.receive({ envelope, message, payloads: [], bytes: 100 }, this.now));
  }

  welcome(resumed = false): void {
    const number = this.lastHello();
    if (!resumed) {
      this.epoch = number;
      this.sent = this.received = 0;
    }
    this.say("welcome", { incarnation: this.incarnation, resumed, heartbeatSeconds: 2, helloNumber: number });
  }

  lastHello(): number {
    const hello = this.got.findLast((message) => message.kind === "hello");
    return hello?.kind === "hello" ? hello.body.helloNumber : 0;
  }

  pass(seconds: number): void {
    for (const end = this.now + seconds; this.now < end;) {
      this.now += 0.25;
      this.events.push(...this.session.tick(this.now));
    }
  }

  granted(): number[] {
    return this.events.flatMap((event) =>
      event.event === "received" && event.message.kind === "creditGrant" ? [event.message.body] : [],
    );
  }

  requested(): number[] {
    return this.got.flatMap((message) => (message.kind === "creditRequest" ? [message.body] : []));
  }
}

function connected(): Peer {
  const peer = new Peer();
  peer.take();
  peer.welcome();
  return peer;
}

test("hellos are repeated until they are answered, and only the last answer counts", () => {
  const peer = new Peer();
  peer.pass(3);
  peer.take();
  const number = peer.lastHello();
  assert.ok(number >= 3);
  peer.say("welcome", { helloNumber: number - 1 });
  assert.equal(peer.session.established, false);
  peer.welcome();
  assert.equal(peer.session.established, true);
});

test("a lost message is sent again when the other end asks for it", () => {
  const peer = connected();
  [1, 2, 3].forEach((count) => peer.session.send("creditRequest", count));
  peer.take((message) => message.kind === "creditRequest" && message.body === 2);
  assert.deepEqual(peer.requested(), [1]);
  peer.say("heartbeat", {}, RESEND);
  peer.take();
  assert.deepEqual(peer.requested(), [1, 2, 3]);
  peer.say("heartbeat", {});
  assert.equal(peer.session.unacknowledgedCount, 0);
});

test("messages are taken once and in order; what is missing is asked for", () => {
  const peer = connected();
  peer.say("creditGrant", 1, SEQUENCED);
  peer.say("creditGrant", 1, SEQUENCED, { sequence: 1 });
  peer.now = 5;
  peer.say("creditGrant", 4, SEQUENCED, { sequence: 4 });
  assert.deepEqual(peer.granted(), [1]);
  assert.ok(peer.take().some((envelope) => envelope.flags & RESEND && envelope.acknowledged === 1));
  [2, 3, 4].forEach((count) => peer.say("creditGrant", count, SEQUENCED, { sequence: count }));
  assert.deepEqual(peer.granted(), [1, 2, 3, 4]);
});

test("a heartbeat tells of a last message that was lost", () => {
  const peer = connected();
  peer.now = 5;
  peer.say("heartbeat", {}, 0, { sequence: 1 });
  assert.ok(peer.take().some((envelope) => envelope.flags & RESEND));
});

test("messages of another epoch are dropped", () => {
  const peer = connected();
  peer.say("creditGrant", 1, SEQUENCED, { epoch: 99 });
  assert.deepEqual(peer.granted(), []);
});

test("after silence a session is resumed, and what was lost is sent again", () => {
  const peer = connected();
  peer.session.send("creditRequest", 7);
  peer.take(() => true);
  peer.pass(6);
  peer.take();
  assert.deepEqual(peer.requested(), []);
  peer.welcome(true);
  peer.take();
  assert.deepEqual(peer.requested(), [7]);
  const established = peer.events.findLast((event) => event.event === "established");
  assert.equal(established?.event === "established" && established.resumed, true);
});

test("another scheduler begins a new session", () => {
  const peer = connected();
  peer.session.send("creditRequest", 7);
  peer.take(() => true);
  peer.say("unknownPeer", null);
  peer.take();
  peer.incarnation = Buffer.alloc(16, 2);
  peer.welcome();
  peer.take();
  assert.deepEqual(peer.requested(), []);
  peer.session.send("creditRequest", 8);
  peer.take();
  assert.deepEqual(peer.requested(), [8]);
});

test("long silence is told once, heartbeats leave in time, many messages are acknowledged", () => {
  const peer = connected();
  for (let count = 1; count <= 200; count += 1) {
    peer.say("creditGrant", count, SEQUENCED);
  }
  assert.ok(peer.take().some((envelope) => envelope.acknowledged >= 64));
  peer.pass(10);
  assert.ok(peer.take().length > 3);
  peer.pass(120);
  assert.equal(peer.events.filter((event) => event.event === "lost").length, 1);
});

test("a refusal, and an acknowledgement of what was never sent, end the session", () => {
  for (const [say, wanted] of [
    [(peer: Peer) => peer.say("refused", "no"), "refused"],
    [(peer: Peer) => peer.say("heartbeat", {}, 0, { acknowledged: 5 }), "broken"],
  ] as const) {
    const peer = connected();
    say(peer);
    assert.equal(peer.events.at(-1)?.event, wanted);
    assert.equal(peer.session.established, false);
    peer.pass(100);
    assert.equal(peer.take().length, 0);
  }
});
