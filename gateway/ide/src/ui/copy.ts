// SPDX-License-Identifier: Apache-2.0
import {toast} from "./toast";

/** To the clipboard. */
export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("The browser does not let this page copy; here it is: " + text, {ms: 20_000});
  }
}
