/** What this client limits: how much leaves at a time, and how long it waits. */

/** Larger arguments travel through object storage. */
export const INLINE_BYTES = 260 * 1024;

/** The most tasks, bytes and different functions in one message. */
export const BATCH_TASKS = 2048;
export const BATCH_BYTES = 4 * 1024 * 1024;
export const FUNCTIONS_IN_BATCH = 0xffff;
/** The most tasks in a message if any of them has options: each may have others. */
export const OPTIONS_TASKS = 1000;
/** The most tasks in a message to a scheduler that has to be told of them again, and the most that one message cancels. */
export const AGAIN_TASKS = 384;
export const CANCEL_TASKS = 256;

/** How often clocks are looked at, in milliseconds. */
export const TICK_MILLISECONDS = 200;
/** How long `close` waits for what is on its way out. */
export const CLOSE_MILLISECONDS = 1000;
/** A cluster that ends with its scheduler has ended once that cannot be reached for so long. */
export const ENDED_MILLISECONDS = 1000;
/** A scheduler that has said goodbye may be back within this time. */
export const GOODBYE_GRACE_SECONDS = 10;

/** How long object storage may take for a request, beside what the bytes before it take at SLOWEST_BYTES_PER_SECOND. */
export const STORAGE_TIMEOUT_SECONDS = 60;
export const SLOWEST_BYTES_PER_SECOND = 10_000_000;
/** A request without an answer is repeated after so long, and then after twice as long each time, up to the second figure. */
export const REPEAT_SECONDS = 2;
export const REPEAT_SECONDS_MAX = 15;
/** How long object storage waits for an object that is not there yet, in one request and in all of them. */
export const GET_WAIT_SECONDS = 10;
export const COMING_SECONDS_MAX = 600;
/** How soon a full storage is asked again. */
export const FULL_PAUSE_SECONDS = 0.5;
/** The most bytes on their way to object storage. */
export const PUT_WINDOW_BYTES = 256 * 1024 * 1024;
