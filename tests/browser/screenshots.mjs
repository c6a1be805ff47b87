// SPDX-License-Identifier: Apache-2.0
// Makes the screenshots anew: screenshots.mjs DIR. The main states, dark and light, at two sizes.
import {mkdirSync} from "node:fs";
import {join} from "node:path";
import {api, key, launch, url} from "./browser.mjs";

const [dir] = process.argv.slice(2);
mkdirSync(dir, {recursive: true});

const MAIN = `"""Reads a week of weather and prints what stands out."""

from dataclasses import dataclass

from report import table, trend


@dataclass
class Day:
    name: str
    low: float
    high: float

    @property
    def spread(self) -> float:
        return self.high - self.low


WEEK = [
    Day("Monday", 4.5, 11.0),
    Day("Tuesday", 6.0, 14.5),
    Day("Wednesday", 7.5, 13.0),
    Day("Thursday", 5.0, 16.5),
]


def main() -> None:
    print("\\x1b[1mThis week\\x1b[0m")
    print(table(WEEK))
    city = input("Which city? ")
    print(f"{city}: {trend(WEEK):+.1f}° a day")


if __name__ == "__main__":
    main()
`;
const REPORT = `"""Tables and trends of days."""

BAR = "\\x1b[36m{}\\x1b[0m"


def table(week) -> str:
    """One line a day, with a bar from its low to its high."""
    lines = []
    for day in week:
        bar = " " * int(day.low) + "━" * int(day.spread)
        lines.append(f"  {day.name:<10} {day.low:5.1f} {BAR.format(bar):<34} {day.high:4.1f}")
    return "\\n".join(lines)


def trend(week) -> float:
    """By how much the high changes from day to day."""
    return (week[-1].high - week[0].high) / (len(week) - 1)
`;
const FILES = {
  "main.py": MAIN,
  "report/__init__.py": REPORT,
  "report/broken.py": "from main import WEEK\n\n\ndef mean(days):\n    return sum(d.high for d in days) / len(days)\n\n\nprint(mean(WEEK))\nprint(mean([]))\n",
  "tests/test_report.py": "from report import trend\n",
  "data/week.json": '{"days": ["Monday", "Tuesday"]}\n',
  "README.md": "# Weather report\n",
  "pyproject.toml": '[project]\nname = "weather-report"\nversion = "1.0"\n',
  ".devbox/run.json": '{"configurations": [{"name": "Report", "command": "python3 main.py"}, {"name": "Tests", "command": "python3 -m unittest"}]}\n',
};

async function workspace(name, template, files) {
  const w = await api("POST", "/api/workspaces", {name, template});
  for (const [path, content] of Object.entries(files)) await api("POST", `/api/workspaces/${w.id}/files`, {path, content});
  return w.id;
}

async function states(page, id, shot) {
  await page.goto(url);
  await page.locator(".recent li").first().waitFor();
  await shot("start");

  await page.goto(url + "/recover#" + "a".repeat(43));
  await page.getByRole("heading", {name: "Choose another password"}).waitFor();
  await shot("recover");
  await page.goto(url + "/s/leads-nowhere");
  await page.getByRole("heading", {name: "This link leads nowhere"}).waitFor();
  await shot("nowhere");

  await page.goto(url + "/w/" + id);
  await page.locator(".monaco-editor .view-line").first().waitFor();
  await page.locator('[data-path="report"]').click();
  await page.locator('[data-path="main.py"]').dblclick();
  await page.locator('[data-path="report/__init__.py"]').dblclick();
  await page.keyboard.press("Control+Enter");
  await page.getByText("Which city?").waitFor();
  await shot("run");

  await page.fill("#stdin", "Bergen");
  await page.press("#stdin", "Enter");
  await page.locator(".verdict").getByText("Finished").waitFor();
  await page.keyboard.press("Control+P");
  await page.keyboard.type("re");
  await page.locator(".palette-item").first().waitFor();
  await shot("quick-open");
  await page.keyboard.press("Escape");

  await page.locator('[data-path="report/broken.py"]').dblclick();
  await page.keyboard.press("Control+Shift+Enter");
  await page.locator(".verdict").getByText("exit code").waitFor();
  await page.getByRole("tab", {name: /Problems/}).click();
  await page.keyboard.press("Control+Shift+F");
  await page.keyboard.type("week");
  await page.getByText(/places in/).waitFor();
  await shot("search-problems");

  await page.getByRole("tab", {name: "Packages"}).click();
  await page.getByRole("textbox", {name: "Name of a package"}).fill("requests");
  await page.keyboard.press("Enter");
  await page.getByRole("button", {name: "Install requests", exact: true}).waitFor();
  await shot("packages");

  await page.getByRole("button", {name: /^Share/}).click();
  await page.locator("dialog.dialog").waitFor();
  await shot("share");
  await page.keyboard.press("Escape");

  const prompt = (n) => page.locator(".terminal-host .xterm-rows").nth(n).getByText(/\$/).last().waitFor();
  await page.keyboard.press("Control+Shift+E");
  await page.keyboard.press("Control+`");
  await prompt(0);
  await page.keyboard.type("python3 report/broken.py; ls\n");
  await page.getByRole("button", {name: "Split the terminal"}).click();
  await prompt(1);
  await page.keyboard.type("git log 2>&1 | head -3; cat data/week.json\n");
  await page.locator(".terminal-host .xterm-rows").nth(1).getByText("Tuesday").waitFor();
  await page.keyboard.press("Control+Shift+O");
  await page.locator(".palette-item").first().waitFor();
  await shot("terminals-names");
  await page.keyboard.press("Escape");
  for (const name of ["Shell 1", "Shell 2"]) await page.getByRole("button", {name: "End " + name}).click().catch(() => page.getByRole("button", {name: "End this terminal"}).click());
}

const browser = await launch();
const made = [];
try {
  for (const [name, template] of [
    ["ferris-wheel", "rust"],
    ["gopher-mail", "go"],
    ["bird-feeder", "node"],
  ])
    made.push(await workspace(name, template, {"README.md": name}));
  const id = await workspace("weather-report", "python", FILES);
  made.push(id);
  for (const colorScheme of ["dark", "light"])
    for (const [width, height] of [
      [1440, 900],
      [1024, 700],
    ]) {
      const context = await browser.newContext({viewport: {width, height}, colorScheme, reducedMotion: "reduce"});
      const page = await context.newPage();
      await page.addInitScript((k) => sessionStorage.setItem("devbox-key", k), key);
      await states(page, id, async (state) => {
        await page.mouse.move(width / 2, height - 4);
        await page.waitForTimeout(300); // fonts and colours settle
        await page.screenshot({path: join(dir, `${state}-${colorScheme}-${width}.png`)});
      });
      await context.close();
    }
} finally {
  for (const id of made) await api("DELETE", "/api/workspaces/" + id).catch(() => {});
  await browser.close();
}
