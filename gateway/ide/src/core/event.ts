// SPDX-License-Identifier: Apache-2.0
/** What is taken back by calling it. */
export type Dispose = () => void;

/** Listeners of one fact. */
export class Emitter<T> {
  private listeners = new Set<(value: T) => void>();

  on(listener: (value: T) => void): Dispose {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  emit(value: T): void {
    for (const listener of [...this.listeners]) listener(value);
  }
}
