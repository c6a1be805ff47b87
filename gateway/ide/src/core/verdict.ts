// SPDX-License-Identifier: Apache-2.0
/** How a program ended, in words. */
import type {Ended} from "../net/wire";

const SIGNALS: Record<string, string> = {
  SIGSEGV: "it touched memory that is not its own (SIGSEGV)",
  SIGABRT: "it gave up (SIGABRT)",
  SIGFPE: "arithmetic went wrong (SIGFPE)",
  SIGKILL: "it was killed (SIGKILL)",
  SIGTERM: "it was asked to end (SIGTERM)",
  SIGILL: "it met an instruction that does not exist (SIGILL)",
};

export type Mood = "good" | "warn" | "bad";

export function verdictWords(e: Ended): {words: string; mood: Mood} {
  switch (e.verdict) {
    case "OK":
      return {words: "Finished", mood: "good"};
    case "EXIT_CODE":
      return {words: "Ended with exit code " + e.exitCode, mood: "warn"};
    case "SIGNAL":
      return {words: "Crashed: " + (SIGNALS[e.signal ?? ""] ?? e.signal), mood: "bad"};
    case "TIME_LIMIT":
      return {words: "Stopped at its limit of CPU time", mood: "bad"};
    case "WALL_LIMIT":
      return {words: "Stopped: its time was over", mood: "bad"};
    case "MEMORY_LIMIT":
      return {words: "Stopped at the sandbox’s memory limit", mood: "bad"};
    case "OUTPUT_LIMIT":
      return {words: "Stopped: it wrote more than the output limit", mood: "bad"};
    case "PROCESS_LIMIT":
      return {words: "Failed at the limit of processes", mood: "bad"};
    case "DISK_LIMIT":
      return {words: "Failed: the sandbox’s disk is full", mood: "bad"};
    case "COMPILE_ERROR":
      return {words: "It did not compile", mood: "bad"};
    case "CANCELLED":
      return {words: "Stopped", mood: "warn"};
    case "NODE_LOST":
      return {words: "Lost: the machine it ran on went away. Run it again", mood: "bad"};
    default:
      return {words: "DevBox itself failed; this was not your program", mood: "bad"};
  }
}
