// SPDX-License-Identifier: Apache-2.0
/** Icons of our own, drawn on 16 by 16. */
import {extension} from "../core/path";

const PATHS = {
  play: "M5 3.2v9.6l7.6-4.8z",
  stop: "M4 4h8v8H4z",
  chevron: "M6 4l4 4-4 4",
  down: "M4 6l4 4 4-4",
  close: "M4.2 4.2l7.6 7.6M11.8 4.2l-7.6 7.6",
  files: "M6 2.5h4L13 5.5v5H6zM3.5 5.5v8H10",
  packages: "M8 2l5.5 2.8v6.4L8 14l-5.5-2.8V4.8zM2.5 4.8L8 7.6l5.5-2.8M8 7.6V14",
  search: "M7.2 11.4a4.2 4.2 0 1 0 0-8.4 4.2 4.2 0 0 0 0 8.4zM10.4 10.4l3 3",
  newFile: "M8.5 2.5H4a1 1 0 0 0-1 1v9a1 1 0 0 0 1 1h3M8.5 2.5L12 6M8.5 2.5V6H12v1M11.5 9.5v4M9.5 11.5h4",
  newFolder: "M7 13H3a1 1 0 0 1-1-1V4a1 1 0 0 1 1-1h3l1.5 2H13a1 1 0 0 1 1 1v1.5M11.5 9.5v4M9.5 11.5h4",
  collapse: "M3 5.5h10M3 8h10M3 10.5h6",
  refresh: "M13 8a5 5 0 1 1-1.6-3.7M13 2.5v2.7h-2.7",
  split: "M2.5 3.5h11v9h-11zM8 3.5v9",
  plus: "M8 3.5v9M3.5 8h9",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  share: "M11.5 5.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM4.5 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM11.5 14.5a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM6.3 7l3.4-2.4M6.3 9l3.4 2.4",
  terminal: "M3 4.5L6.5 8 3 11.5M8 12h5",
  error: "M8 13.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11zM6 6l4 4M10 6l-4 4",
  warning: "M8 2.8l5.8 10.2H2.2zM8 6.5v3M8 11.4v.01",
  check: "M3.5 8.5l3 3 6-7",
  trash: "M3 4.5h10M6.5 4.5v-2h3v2M4.5 4.5l.6 9h5.8l.6-9",
  cloudOff: "M3 3l10 10M6 4.2A3.8 3.8 0 0 1 11.6 7 2.8 2.8 0 0 1 13 11.6M4.4 6.3A3 3 0 0 0 5 12h5.5",
  upload: "M8 10.5v-7M5 6l3-3 3 3M3 11.5v2h10v-2",
  download: "M8 3v7M5 7.5l3 3 3-3M3 12v1.5h10V12",
  clear: "M3.5 12.5h9M5 10L3.5 8.5 9 3l3.5 3.5L9 10z",
  link: "M7 9a2.5 2.5 0 0 0 3.5 0l2-2A2.5 2.5 0 0 0 9 3.5l-.8.8M9 7a2.5 2.5 0 0 0-3.5 0l-2 2A2.5 2.5 0 0 0 7 12.5l.8-.8",
  edit: "M10.5 3.5l2 2-7 7H3.5v-2z",
  spinner: "M8 2.5a5.5 5.5 0 1 1-5.5 5.5",
  panel: "M2.5 3.5h11v9h-11zM2.5 9.5h11",
  wrap: "M2.5 4h11M2.5 8h8.5a2 2 0 0 1 0 4H8M9.5 10.5L8 12l1.5 1.5M2.5 12h2.5",
} as const;
export type IconName = keyof typeof PATHS;

export function Icon(props: {name: IconName; spin?: boolean}) {
  const solid = () => props.name === "play" || props.name === "stop";
  return (
    <svg class="icon" classList={{solid: solid(), spin: props.spin === true}} viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[props.name]} />
    </svg>
  );
}

const KINDS: Record<string, string> = {
  py: "ft-py",
  js: "ft-js",
  mjs: "ft-js",
  cjs: "ft-js",
  jsx: "ft-js",
  ts: "ft-ts",
  tsx: "ft-ts",
  go: "ft-go",
  mod: "ft-go",
  rs: "ft-rs",
  html: "ft-web",
  css: "ft-css",
  json: "ft-data",
  toml: "ft-data",
  yaml: "ft-data",
  yml: "ft-data",
};

export function FileIcon(props: {path: string; folder?: boolean; open?: boolean}) {
  const kind = () => (props.folder ? "ft-folder" : (KINDS[extension(props.path)] ?? ""));
  return (
    <svg class={"file-icon " + kind()} viewBox="0 0 16 16" aria-hidden="true">
      {props.folder ? (
        <path class="fill" d={props.open ? "M2.5 12.5v-8a1 1 0 0 1 1-1h2.8l1.4 1.7h4.8a1 1 0 0 1 1 1v1M2.5 12.5l1.6-5h10.4l-1.7 5z" : "M2.5 4.5a1 1 0 0 1 1-1h2.8l1.4 1.7h4.8a1 1 0 0 1 1 1v5.3a1 1 0 0 1-1 1h-9a1 1 0 0 1-1-1z"} />
      ) : (
        <>
          <path class="fill" d="M4 2.5h5l3.5 3.5v7a.7.7 0 0 1-.7.7H4a.7.7 0 0 1-.7-.7V3.2a.7.7 0 0 1 .7-.7z" />
          <path d="M9 2.5V6h3.5" />
        </>
      )}
    </svg>
  );
}

/** A language's mark: letters on its colour. */
export function Mark(props: {template: string; small?: boolean}) {
  const letters = () => ({python: "py", node: "js", go: "go", rust: "rs"})[props.template] ?? props.template.slice(0, 2);
  return (
    <span class={"mark lang-" + props.template} classList={{small: props.small === true}} aria-hidden="true">
      {letters()}
    </span>
  );
}
