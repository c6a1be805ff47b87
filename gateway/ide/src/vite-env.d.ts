// SPDX-License-Identifier: Apache-2.0
/// <reference types="vite/client" />

// Inner parts of Monaco 0.57 that late features need (editor/monaco.ts); they come without types.
declare module "monaco-editor/editor/standalone/browser/standaloneServices" {
  interface Services {
    get(id: unknown): unknown;
    set(id: unknown, descriptor: unknown): void;
  }
  export const StandaloneServices: {initialize(overrides: object): {_services: Services}};
}
declare module "monaco-editor/platform/instantiation/common/extensions" {
  export function getSingletonServiceDescriptors(): [unknown, unknown][];
}
