// SPDX-License-Identifier: Apache-2.0
/** A bar between two parts: dragged, moved by arrows, reset by a double click. */
import {createSignal} from "solid-js";

export function Splitter(props: {
  /** Which way the bar stands. */
  stands: "vertical" | "horizontal";
  label: string;
  value: number;
  min: number;
  max: () => number;
  reset: number;
  /** The part that is sized lies behind the bar. */
  after?: boolean;
  change: (value: number) => void;
}) {
  const [dragging, setDragging] = createSignal(false);
  const clamp = (v: number) => Math.round(Math.max(props.min, Math.min(v, props.max())));
  const at = (e: PointerEvent) => (props.stands === "vertical" ? e.clientX : e.clientY);
  const down = (e: PointerEvent & {currentTarget: HTMLElement}) => {
    const bar = e.currentTarget;
    const from = at(e);
    const value = props.value;
    bar.setPointerCapture(e.pointerId);
    setDragging(true);
    const move = (m: PointerEvent) => props.change(clamp(value + (at(m) - from) * (props.after ? -1 : 1)));
    const up = () => {
      setDragging(false);
      bar.removeEventListener("pointermove", move);
    };
    bar.addEventListener("pointermove", move);
    bar.addEventListener("lostpointercapture", up, {once: true});
  };
  const key = (e: KeyboardEvent) => {
    const [less, more] = props.stands === "vertical" ? ["ArrowLeft", "ArrowRight"] : ["ArrowUp", "ArrowDown"];
    const step = e.shiftKey ? 64 : 16;
    const sign = props.after ? -1 : 1;
    if (e.key === less) props.change(clamp(props.value - step * sign));
    else if (e.key === more) props.change(clamp(props.value + step * sign));
    else if (e.key === "Enter") props.change(props.reset);
    else return;
    e.preventDefault();
  };
  return (
    <div
      class={"splitter " + props.stands}
      classList={{dragging: dragging()}}
      role="separator"
      tabIndex={0}
      aria-label={props.label}
      aria-orientation={props.stands}
      aria-valuenow={props.value}
      aria-valuemin={props.min}
      aria-valuemax={Math.max(props.min, Math.round(props.max()))}
      onPointerDown={down}
      onKeyDown={key}
      onDblClick={() => props.change(props.reset)}
    />
  );
}
