/** The state of a connection. `"waiting"`: it has ended, and the next attempt is due later. */
export type State = "connecting" | "open" | "waiting" | "closed";

/** The reason of a state, and the delay of the next attempt. */
export interface StateDetail {
  /** The close code: 1006 if there was none, as when the server is away or refuses. */
  code?: number;
  /** The reason of the Close, or an error in words. */
  reason?: string;
  /** Milliseconds until the next attempt. Only for `"waiting"`. */
  delay?: number;
}

/** The part of a WebSocket that is used. Browsers, Node from version 22 and npm's `ws` have it. */
export interface SocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export interface ConnectOptions {
  /** The class of sockets. Default: the global `WebSocket`. */
  WebSocket?: new (url: string, protocols: string[]) => SocketLike;
  /** Subprotocols to offer behind `rooms.v1.json`, such as one that carries a token. */
  protocols?: string[];
  /**
   * The shortest delay before the next attempt, in milliseconds. The longest first delay is ten times as long.
   * Default: 100.
   */
  minDelay?: number;
  /** The longest delay before the next attempt, in milliseconds. Default: 30,000. */
  maxDelay?: number;
  /**
   * A connection counts as dead if it does not open, or does not answer, for this long. Milliseconds.
   * Default: 10,000.
   */
  timeout?: number;
  /** After this silence, the server is asked for an answer. Milliseconds; `Infinity` never asks. Default: 25,000. */
  heartbeat?: number;
  /** How many messages of a room wait while there is no connection. Default: 100; 0 refuses them. */
  maxQueue?: number;
  /** Is called with each new state. */
  onState?(state: State, detail: StateDetail): void;
}

/**
 * Connects to a server, and again whenever the connection ends, until `close` is called.
 *
 * @param url An absolute URL, or in a page a relative one, with `http`, `https`, `ws` or `wss`. A function is called
 * for each attempt, for example to fetch a new token.
 * @throws TypeError if the URL is wrong.
 */
export function connect(url: string | URL | (() => string | URL | Promise<string | URL>), options?: ConnectOptions): Connection;

export interface Connection {
  readonly state: State;
  /**
   * Joins a room. The room joins again with each new connection, and resumes after its last message.
   *
   * @throws RoomsError `"joined_already"` or `"closed"`.
   */
  join<Data = unknown, Value = unknown>(name: string, options?: JoinOptions<Data, Value>): Room<Data, Value>;
  /**
   * Connects at once instead of at the end of the delay, or asks an open connection whether it lives. The attempt
   * begins at least ten times `minDelay` after the one before. Does nothing in a hidden page.
   */
  wake(): void;
  /** Leaves all rooms and closes the connection for good. */
  close(code?: number, reason?: string): void;
}

/** A member of a room, or all members with the same key. */
export interface Member<Value = unknown> {
  /** Unique in the server. A member gets a new one each time it joins. */
  id: string;
  /** The key that the server gave it, such as a user's id. */
  key?: string;
  value: Value;
}

export interface Message<Data = unknown> {
  data: Data;
  /** The id of the member that sent it, if one did. */
  by?: string;
  /** The key of that member, if it has one. */
  key?: string;
  /** The position, in rooms with history. */
  at?: string;
  /** This connection sent the message, or one before it to the same server. */
  own: boolean;
  /** It was sent before this join. */
  past: boolean;
}

export interface Welcome {
  /** The id of this member. */
  me: string;
  /**
   * `"recovered"`: the missed messages follow, except those of `onGap` with `"withheld"`. `"gap"`: messages may be
   * missing. `"fresh"`: there was no position to resume from.
   */
  recovery: "fresh" | "recovered" | "gap";
  /** The reason of a gap. */
  reason?: GapReason;
  /** How many messages of the past follow. */
  messages: number;
}

/**
 * Why messages are missing. `"slow"`: this client read too slowly. `"no_history"`: the room keeps none, and the
 * connection was away. The server gives the other reasons when a room is resumed: `"epoch"` (the server was restarted),
 * `"trimmed"` and `"too_much"` (away for too long), `"unknown"` and `"diverged"` (the position is not in the history),
 * `"withheld"` (the server sent messages to all but one member, and may have left out this one).
 */
export type GapReason = "slow" | "no_history" | "withheld" | "epoch" | "trimmed" | "unknown" | "diverged" | "too_much" | (string & {});

export interface Gap {
  reason: GapReason;
  /** How many messages were lost, if known. */
  lost?: number;
}

/** What has changed in the list of members. */
export interface Changes<Value = unknown> {
  joined: Member<Value>[];
  updated: Member<Value>[];
  left: Member<Value>[];
}

export interface JoinOptions<Data = unknown, Value = unknown> {
  /** How many messages of the history to get if nothing is resumed. Default: none. */
  last?: number;
  /** A position to resume from: `at` of a room or a message. */
  after?: string;
  /** Receives without being listed. */
  silent?: boolean;
  /** Is called for each message, in order. A message with a position comes once. */
  onMessage?(message: Message<Data>): void;
  /** Is called when messages are missing, at the place where they are missing. */
  onGap?(gap: Gap): void;
  /** Is called with each news of the members, or of their number. */
  onMembers?(changes: Changes<Value>): void;
  /** Is called each time the room was joined, before its messages. */
  onWelcome?(welcome: Welcome): void;
  /**
   * Is called when the room has ended: the server refused the join (such as `"forbidden"`), or ended the membership
   * (such as `"removed"`).
   */
  onEnd?(code: string): void;
  /** Is called when the server has refused a fleeting message, whose promise is already fulfilled. */
  onError?(error: RoomsError): void;
}

export interface SendOptions {
  /** Not to this member: for a page that shows its own messages by itself. They do not come in a replay, either. */
  others?: boolean;
  /** Not kept in the history, and never queued: for states of a moment, such as typing. */
  fleeting?: boolean;
  /** The key of a state. A slow member gets only the newest message of a key. */
  latest?: string;
}

export interface Sent {
  /** The position, in rooms with history. */
  at?: string;
  /** How many members get it. Left out if the answer was lost and the message was found in the history. */
  members?: number;
}

export interface Room<Data = unknown, Value = unknown> {
  readonly name: string;
  /** Is fulfilled with the first welcome. Is rejected if the room ends before. */
  readonly ready: Promise<void>;
  /** Whether messages come at the moment. */
  readonly joined: boolean;
  /** The id of this member, from the first welcome on. */
  readonly me: string | undefined;
  /** The position up to which messages were received. */
  readonly at: string | undefined;
  /** The members, by the last news. Empty in large rooms, which have only a number. */
  readonly members: Member<Value>[];
  readonly count: number;
  /**
   * Sends JSON to all members. While there is no connection, messages wait in a queue, but not fleeting ones.
   *
   * The promise is rejected with a `RoomsError`. Its code is `"unknown"` if the connection was lost before the answer
   * and the history does not have the message: it may have been sent, or not, or may still arrive. It is never sent
   * again. With any other code the message was not sent.
   */
  send(data: Data, options?: SendOptions): Promise<Sent>;
  /** Leaves. Is fulfilled when the server has answered. */
  leave(): Promise<void>;
}

export class RoomsError extends Error {
  constructor(code: string);
  /**
   * Of this module: `"offline"` (not sent, and not queued), `"unknown"` (the outcome of a send), `"left"` and
   * `"closed"` (by the caller), `"joined_already"`. Others are those of the protocol, such as `"read_only"`.
   */
  readonly code: string;
}
