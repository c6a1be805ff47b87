// SPDX-License-Identifier: Apache-2.0
/** Gives the focus to an element at once where it is there, so that the next key goes there; else with the next frame. */
export function focusOn(find: () => HTMLElement | null | undefined): void {
  const there = find();
  if (there?.isConnected) there.focus();
  else requestAnimationFrame(() => find()?.focus());
}
