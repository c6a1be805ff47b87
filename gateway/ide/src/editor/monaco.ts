// SPDX-License-Identifier: Apache-2.0
/** The editor, which is Monaco, bound to documents. Texts have "\n" between lines, whatever a file had. Its core is painted first; the
 *  features (finding, suggestions, folding ...) are a chunk of their own, and an editor that was made without them is made anew: one turn
 *  of the page, with the text, the cursors and the focus where they were. */
import {createEffect, createRoot} from "solid-js";
import {editor, MarkerSeverity, Range, Uri} from "monaco-editor/editor";
import EditorWorker from "monaco-editor/editor/editor.worker?worker";
import {StandaloneServices} from "monaco-editor/editor/standalone/browser/standaloneServices";
import {getSingletonServiceDescriptors} from "monaco-editor/platform/instantiation/common/extensions";
import {Emitter} from "../core/event";
import {languageName, languageOf} from "../core/languages";
import {difference} from "../core/merge";
import type {Problem} from "../core/problems";
import type {Buffer, Document} from "../project/document";
import {settings, themeChanged} from "../settings";
import "./languages";
import type {Cursor, EditorHandle, EditorPort, MergeHandle} from "./port";
import {useTheme} from "./theme";

self.MonacoEnvironment = {getWorker: () => new EditorWorker()};

const FONT = '"JetBrains Mono Variable", ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace';
const common: editor.IEditorOptions & editor.IGlobalEditorOptions = {
  theme: "devbox",
  fontFamily: FONT,
  fontLigatures: false,
  automaticLayout: true,
  fixedOverflowWidgets: true,
  scrollBeyondLastLine: false,
  smoothScrolling: false,
  renderLineHighlight: "all",
  renderLineHighlightOnlyWhenFocus: true,
  padding: {top: 8, bottom: 24},
  stickyScroll: {enabled: false},
  occurrencesHighlight: "singleFile",
  guides: {indentation: true},
  lineNumbersMinChars: 4,
  lineDecorationsWidth: 12,
  scrollbar: {verticalScrollbarSize: 12, horizontalScrollbarSize: 12, useShadows: false},
  overviewRulerBorder: false,
  hideCursorInOverviewRuler: true,
  unicodeHighlight: {ambiguousCharacters: false},
  links: true,
  quickSuggestions: {other: true, comments: false, strings: false},
  wordBasedSuggestions: "matchingDocuments",
  acceptSuggestionOnEnter: "off", // words of the file are a guess: Tab takes one, Enter ends the line
};

/** Puts a text into a model by the smallest edit: cursors elsewhere stay, and it can be undone. */
function replace(model: editor.ITextModel, text: string): void {
  const d = difference(model.getValue(editor.EndOfLinePreference.LF), text);
  if (!d) return;
  const range = Range.fromPositions(model.getPositionAt(d.from), model.getPositionAt(d.to));
  model.pushEditOperations(null, [{range, text: d.text}], () => null);
}

interface Bound {
  model: editor.ITextModel;
  doc: Document;
}
const bound = new Map<string, Bound>();
const onEdit = new Emitter<Document>();
let problems: Problem[] = [];

function bind(doc: Document): Bound {
  const there = bound.get(doc.id);
  if (there?.doc === doc) return there;
  there?.model.dispose();
  // The URI carries the id: a file that is renamed stays the same model.
  const uri = Uri.from({scheme: "devbox", path: "/" + doc.id});
  editor.getModel(uri)?.dispose();
  const model = editor.createModel(doc.buffer.get(), languageOf(doc.path()), uri);
  model.setEOL(editor.EndOfLineSequence.LF);
  model.updateOptions({bracketColorizationOptions: {enabled: false, independentColorPoolPerBracketType: false}});
  let silent = false;
  const buffer: Buffer = {
    get: () => model.getValue(editor.EndOfLinePreference.LF),
    set: (text) => {
      silent = true;
      replace(model, text);
      silent = false;
    },
  };
  doc.buffer = buffer;
  model.onDidChangeContent(() => {
    if (silent) return;
    doc.edited();
    onEdit.emit(doc);
  });
  const b = {model, doc};
  bound.set(doc.id, b);
  mark(b);
  return b;
}

function mark(b: Bound): void {
  const mine = problems.filter((p) => p.path === b.doc.path());
  editor.setModelMarkers(
    b.model,
    "run",
    mine.map((p) => {
      const line = Math.min(Math.max(p.line, 1), b.model.getLineCount());
      const word = b.model.getWordAtPosition({lineNumber: line, column: p.column});
      const whole = p.column <= 1;
      return {
        severity: p.severity === "error" ? MarkerSeverity.Error : MarkerSeverity.Warning,
        message: p.message,
        startLineNumber: line,
        endLineNumber: line,
        startColumn: whole ? b.model.getLineFirstNonWhitespaceColumn(line) || 1 : (word?.startColumn ?? p.column),
        endColumn: whole ? b.model.getLineMaxColumn(line) : (word?.endColumn ?? p.column + 1),
      };
    }),
  );
}

const alive = new Set<Handle>();
let features: Promise<void> | null = null;

/** Monaco looks once at what is registered, when its first editor is made: what came since is shown to it. */
function adopt(): void {
  const {_services: services} = StandaloneServices.initialize({});
  for (const [id, descriptor] of getSingletonServiceDescriptors()) if (!services.get(id)) services.set(id, descriptor);
  editor.addKeybindingRules([]); // it forgets which keys it knew
  for (const h of alive) h.renew();
}

/** Fetches the features, and gives them to the editors that are there. */
function loadFeatures(): Promise<void> {
  features ??= import("./features").then(
    adopt,
    (e: unknown) => {
      console.error(e);
      features = null; // with the next action, again
    },
  );
  return features;
}

class Handle implements EditorHandle {
  readonly cursor = new Emitter<Cursor>();
  readonly focused = new Emitter<void>();
  private code!: editor.IStandaloneCodeEditor;
  private doc: Document | null = null;
  private stop: () => void;

  constructor(private host: HTMLElement) {
    this.make();
    this.stop = createRoot((dispose) => {
      createEffect(() => this.code.updateOptions(this.options()));
      return dispose;
    });
    alive.add(this);
  }

  private make(): void {
    this.code = editor.create(this.host, {...common, ...this.options(), model: null});
    this.code.onDidChangeCursorSelection(() => this.tell());
    this.code.onDidChangeModelOptions(() => this.tell());
    this.code.onDidFocusEditorWidget(() => this.focused.emit());
  }

  private options(): editor.IEditorOptions & editor.IGlobalEditorOptions {
    const s = settings();
    const readOnly = this.doc?.readOnly() ?? false;
    return {
      fontSize: s.fontSize,
      lineHeight: Math.round(s.fontSize * 1.55),
      wordWrap: s.wrap ? "on" : "off",
      minimap: {enabled: s.minimap},
      accessibilitySupport: s.screenReader ? "on" : "auto",
      readOnly,
      domReadOnly: readOnly,
      readOnlyMessage: {value: "You may look at this workspace, not change it."},
      ...(this.doc && {ariaLabel: this.doc.path() + ", editor. Tab indents; Ctrl+M lets Tab move on."}),
    };
  }

  /** The same editor, with what has been registered since it was made. */
  renew(): void {
    if (this.code.inComposition) {
      const once = this.code.onDidCompositionEnd(() => {
        once.dispose();
        setTimeout(() => alive.has(this) && this.renew());
      });
      return;
    }
    const [model, view, focused] = [this.code.getModel(), this.code.saveViewState(), this.code.hasWidgetFocus()];
    this.code.dispose();
    this.make();
    this.code.setModel(model);
    if (view) this.code.restoreViewState(view);
    if (focused) this.code.focus();
  }

  now(): Cursor | null {
    const model = this.code.getModel();
    const at = this.code.getPosition();
    if (!model || !at) return null;
    const selection = this.code.getSelection();
    const {insertSpaces, tabSize} = model.getOptions();
    return {
      line: at.lineNumber,
      column: at.column,
      selected: selection ? model.getValueLengthInRange(selection) : 0,
      language: languageName(model.getLanguageId()),
      indent: insertSpaces ? tabSize + " spaces" : "Tabs",
    };
  }
  private tell(): void {
    const c = this.now();
    if (c) this.cursor.emit(c);
  }

  show(doc: Document, view: unknown): void {
    const {model} = bind(doc);
    const language = languageOf(doc.path());
    if (model.getLanguageId() !== language) editor.setModelLanguage(model, language);
    this.doc = doc;
    this.code.updateOptions(this.options());
    if (this.code.getModel() !== model) {
      this.code.setModel(model);
      if (view) this.code.restoreViewState(view as editor.ICodeEditorViewState);
    }
    this.tell();
    if (!features) requestAnimationFrame(() => setTimeout(() => void loadFeatures()));
  }
  view(): unknown {
    return this.doc && this.code.getModel() ? this.code.saveViewState() : null;
  }
  reveal(line: number, column: number): void {
    const model = this.code.getModel();
    if (!model) return;
    const position = model.validatePosition({lineNumber: line, column});
    this.code.setPosition(position);
    this.code.revealPositionInCenterIfOutsideViewport(position);
    this.code.focus();
  }
  focus(): void {
    this.code.focus();
  }
  action(id: string): void {
    void loadFeatures().then(() => {
      this.code.focus();
      this.code.trigger("devbox", id, null);
    });
  }
  dispose(): void {
    alive.delete(this);
    this.stop();
    this.code.dispose();
  }
}

function merge(host: HTMLElement, path: string, theirs: string, mine: string): MergeHandle {
  const language = languageOf(path);
  const original = editor.createModel(theirs, language);
  const modified = editor.createModel(mine, language);
  const diff = editor.createDiffEditor(host, {
    ...common,
    originalEditable: false,
    originalAriaLabel: path + " as it was saved elsewhere",
    modifiedAriaLabel: path + ", your text; this is what will be saved",
    fontSize: settings().fontSize,
    minimap: {enabled: false},
    useInlineViewWhenSpaceIsLimited: false,
  });
  diff.setModel({original, modified});
  return {
    text: () => modified.getValue(editor.EndOfLinePreference.LF),
    dispose: () => {
      diff.dispose();
      original.dispose();
      modified.dispose();
    },
  };
}

useTheme();
themeChanged.on(useTheme);

export const port: EditorPort = {
  create: (host) => new Handle(host),
  merge,
  onEdit,
  setProblems: (list) => {
    problems = list;
    for (const b of bound.values()) mark(b);
  },
  release: (keep) => {
    for (const [id, b] of bound)
      if (!keep(id)) {
        b.model.dispose();
        bound.delete(id);
      }
  },
  ready: document.fonts.load('13px "JetBrains Mono Variable"').then(
    () => editor.remeasureFonts(),
    () => undefined,
  ),
};
