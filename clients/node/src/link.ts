/** A ZeroMQ DEALER socket: what is sent waits here while there is no connection, and is not lost without a word. */

import { Dealer } from "zeromq";

import { encodeEnvelope } from "./wire.js";
import type { Outgoing } from "./session.js";

/** Keys of ZeroMQ's CURVE, as Z85 texts of 40 characters. */
export interface Keys {
  readonly publicKey: string;
  readonly secretKey: string;
  readonly serverKey: string;
}

interface Waiting {
  readonly outgoing: Outgoing;
  isDropped: boolean;
}

/** See the module. `onFrames` gets each message that arrives. */
export class Link {
  /** Since when there has been no connection after one that broke, in milliseconds of `Date.now()`; null while there is one. */
  downSince: number | null = null;
  private readonly socket: Dealer;
  private waiting: Waiting[] = [];
  private readonly byKey = new Map<string, Waiting>();
  private isSending = false;
  private readonly idle: (() => void)[] = [];

  constructor(
    readonly address: string,
    identity: Buffer,
    keys: Keys | undefined,
    onFrames: (frames: Buffer[]) => void,
  ) {
    this.socket = new Dealer({
      linger: 0,
      // Wait here, not in a queue of ZeroMQ's for a peer that may never come.
      immediate: true,
      receiveHighWaterMark: 0,
      reconnectInterval: 100,
      ...(keys === undefined
        ? {}
        : { curvePublicKey: keys.publicKey, curveSecretKey: keys.secretKey, curveServerKey: keys.serverKey }),
    });
    // Its type says string; the library takes bytes as well, and the protocol's identities are bytes.
    (this.socket as { routingId: unknown }).routingId = identity;
    this.socket.events.on("handshake", () => {
      this.downSince = null;
    });
    this.socket.events.on("disconnect", () => {
      this.downSince ??= Date.now();
    });
    try {
      this.socket.connect(address);
    } catch (error) {
      this.socket.close();
      throw error;
    }
    void this.receiveAll(onFrames);
  }

  /** Send messages, in order. */
  send(messages: readonly Outgoing[]): void {
    for (const outgoing of messages) {
      const entry = { outgoing, isDropped: false };
      if (outgoing.key !== undefined) {
        const older = this.byKey.get(outgoing.key);
        if (older !== undefined) {
          older.isDropped = true;
        }
        this.byKey.set(outgoing.key, entry);
      }
      this.waiting.push(entry);
    }
    if (!this.isSending && this.waiting.length > 0) {
      void this.sendAll();
    }
  }

  /** Forget what has not left. */
  clear(): void {
    this.waiting = [];
    this.byKey.clear();
  }

  /** Close when everything has left, or when the time is over. */
  async close(milliseconds: number): Promise<void> {
    if (this.isSending) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        this.idle.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    // For the kernel's share of what has left, which takes no time unless the other end is gone.
    this.socket.linger = this.downSince === null ? milliseconds : 0;
    this.socket.close();
  }

  private async sendAll(): Promise<void> {
    this.isSending = true;
    try {
      for (let entry = this.waiting.shift(); entry !== undefined; entry = this.waiting.shift()) {
        const { envelope, frames, key } = entry.outgoing;
        if (key !== undefined && this.byKey.get(key) === entry) {
          this.byKey.delete(key);
        }
        if (!entry.isDropped) {
          await this.socket.send([encodeEnvelope(envelope), ...frames]);
        }
      }
    } catch {
      // The socket was closed meanwhile.
    } finally {
      this.isSending = false;
      this.idle.splice(0).forEach((tell) => tell());
    }
  }

  private async receiveAll(onFrames: (frames: Buffer[]) => void): Promise<void> {
    try {
      for await (const frames of this.socket) {
        onFrames(frames);
      }
    } catch (error) {
      if (!this.socket.closed) {
        throw error;
      }
    }
  }
}
