/** Tasks that are not answered, and those whose results are arguments of others. */

import { BATCH_BYTES, FUNCTIONS_IN_BATCH, OPTIONS_TASKS } from "./limits.js";
import { dumpPlain } from "./plain.js";

/** The promise of a task's result. As an argument of another task, it stands for the result. */
export type TaskPromise<T> = Promise<T> & {
  /** Stop the task wherever it is; the promise is rejected with CancelledError. No effect on one that is answered. */
  cancel(): void;
};

/** A function by its name. */
export interface NamedFunction {
  readonly id: Buffer;
  readonly body: Buffer;
  readonly name: string;
}

/** A task. It is kept as long as its promise is. */
export interface Task {
  /** Another one, should it be submitted again with values that the scheduler does not have. */
  number: number;
  readonly function: NamedFunction;
  readonly capabilities: readonly string[];
  /** The record of its options, and what of these is for the client itself. */
  readonly options: string;
  readonly label: string;
  promise: TaskPromise<unknown> | undefined;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  /** From now on nobody need handle the rejection. */
  readonly hush: () => void;
  /** The arguments, or the object that has them. Empty once it is answered. */
  payload: Buffer;
  /** The object with large arguments, and what is in it. */
  object: { readonly id: Buffer; readonly content: Buffer } | null;
  /** Until the object is stored. */
  storing: Promise<void> | null;
  /** Whether the scheduler has it, and has not answered. */
  hasLeft: boolean;
  isAnswered: boolean;
  /** What it was answered with. */
  value: unknown;
  /** The JSON of the value, where `dumpPlain` of the value makes another one. */
  text: string | null;
  error: Error | null;
  /** Tasks whose results are among its arguments, and the JSON of these, with a mark for each of them. */
  readonly inputs: readonly Task[];
  readonly template: string;
  /** Those that the scheduler was asked to take the results of. */
  earlier: readonly Task[];
  /** Those whose values must be here before it is submitted again. */
  readonly missing: Set<Task>;
  /** Unanswered tasks of which this one is an input. */
  readonly dependents: Set<Task>;
  /** The object with its result, which is read but still needed by dependents. */
  keptResult: Buffer | null;
}

/** A mark in JSON. In the texts of values, quotation marks are escaped, and own keys of this name have one more "$". */
const MARK = /\{"\$input":(\d+)\}/gu;

/** What Python writes in another way than this client does: floats without a fraction, and datetimes. */
const CHANGED_BY_US = /\.0(?!\d)|"\$datetime"/u;

/** Return the mark of an input. */
export function inputMark(index: number): { $input: number } {
  return { $input: index };
}

/** Return the text of a result if it is not the one that `dumpPlain` makes of its value. */
export function textToKeep(text: string): string | null {
  return CHANGED_BY_US.test(text) ? text : null;
}

/** Return the arguments of a task as JSON, with the values of those inputs that are done, and the other inputs. */
export function fillArguments(task: Task): { readonly json: string; readonly earlier: Task[] } {
  const earlier = task.inputs.filter((input) => !input.isAnswered);
  const json = task.template.replace(MARK, (_, index: string) => {
    const input = task.inputs[Number(index)]!;
    const place = earlier.indexOf(input);
    return place < 0 ? (input.text ?? dumpPlain(input.value)) : JSON.stringify(inputMark(place));
  });
  return { json, earlier };
}

/** Take the tasks of one message from the front of a list: a task with inputs alone, or those that ask for the same capabilities. */
export function takeBatch(tasks: Task[], most: number): Task[] {
  const [first] = tasks;
  if (first !== undefined && first.earlier.length > 0) {
    return tasks.splice(0, 1);
  }
  const capabilities = String(first?.capabilities ?? []);
  const functions = new Set<NamedFunction>();
  let count = 0;
  let bytes = 0;
  let hasOptions = false;
  for (const task of tasks) {
    functions.add(task.function);
    hasOptions ||= task.options !== "";
    const room = hasOptions ? Math.min(most, OPTIONS_TASKS) : most;
    const fits = count < room && bytes < BATCH_BYTES && functions.size <= FUNCTIONS_IN_BATCH;
    if (!fits || task.earlier.length > 0 || String(task.capabilities) !== capabilities) {
      break;
    }
    bytes += task.payload.length;
    count += 1;
  }
  return tasks.splice(0, count);
}
