#!/usr/bin/python3
"""The house rules that a script can see: who includes whom, and what a file may not hold.

Run it from anywhere: house_test.py [ROOT]. Every failure names file:line and the rule.
"""
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]

# A room → the rooms whose headers it may include (docs/architecture.md).
MAY_INCLUDE = {
    "wire": set(),
    "crypto": set(),
    "runtime": set(),
    "config": {"wire", "crypto"},
    "channel": {"config", "wire", "crypto"},
    "dataplane": {"config", "channel", "wire", "crypto", "runtime"},
    "ike": {"config", "channel", "wire", "crypto", "runtime"},
    "cli": {"config", "channel", "wire", "crypto", "runtime"},
}
ROOMS = set(MAY_INCLUDE)
# Folders within a room that know less than the room does.
STRICTER = {
    # The state machine does no I/O and has no clock of its own.
    "ike/machine": {"may_not_include": {"runtime", "ike/daemon"},
                    "system": r"<(sys/socket|sys/epoll|unistd|thread|mutex|fstream|iostream)[.a-z]*>"},
    # A packet's way knows the tables, not those who write them.
    "dataplane/worker": {"may_not_include": {"dataplane/control", "runtime"},
                         "system": r"<(mutex|thread|iostream|functional)>"},
    "dataplane/tables": {"may_not_include": {"dataplane/control", "dataplane/worker", "runtime"},
                         "system": r"<(mutex|iostream)>"},
    # What bytes mean needs no system call.
    "wire": {"may_not_include": set(), "system": r"<(sys/socket|unistd|thread|mutex|fstream)[.a-z]*>"},
}
TOP_FOLDERS_WITH_README = sorted(ROOMS | {"tests", "benchmarks", "scripts", "deploy", "docs"})
MAX_LINES = 450
TEXT_SUFFIXES = {".cpp", ".hpp", ".py", ".sh", ".md", ".build", ".yaml", ".yml", ".service", ".json"}

# On the packet path: nothing that may allocate, lock, throw or print.
NOT_ON_THE_PACKET_PATH = [
    r"\bstd::mutex\b", r"\bnew\s+[A-Za-z_:(]", r"\bthrow\b", r"\bf?printf\s*\(", r"\bstd::function\b",
    r"\bstd::string\b(?!_view)", r"\bstd::(unordered_)?map\b",
]


def tracked_files():
    """Files of the project: tracked ones and new ones that are not ignored."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True)
    if listing.returncode == 0 and listing.stdout:
        names = listing.stdout.splitlines()
    else:  # an unpacked archive
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")
                 if path.is_file() and not path.relative_to(ROOT).parts[0].startswith(("build", "."))]
    return [name for name in sorted(set(names)) if (ROOT / name).is_file()]


FILES = tracked_files()
SOURCES = [name for name in FILES if name.endswith((".cpp", ".hpp"))]
ROOM_SOURCES = [name for name in SOURCES if name.split("/")[0] in ROOMS]


def lines_of(name):
    return (ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines()


def without_comments(lines):
    """Code with comments and string literals blanked, line numbers kept."""
    in_block = False
    for line in lines:
        line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
        if in_block:
            end = line.find("*/")
            if end < 0:
                yield ""
                continue
            line, in_block = line[end + 2:], False
        line = re.sub(r"/\*.*?\*/", "", line)
        start = line.find("/*")
        if start >= 0 and "//" not in line[:start]:
            line, in_block = line[:start], True
        yield line.split("//")[0]


def includes_of(name):
    """(line number, included path) of every quoted include."""
    for number, line in enumerate(lines_of(name), 1):
        found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if found:
            yield number, found.group(1)


def system_includes_of(name):
    for number, line in enumerate(lines_of(name), 1):
        found = re.match(r"\s*#\s*include\s+(<[^>]+>)", line)
        if found:
            yield number, found.group(1)


class Layers(unittest.TestCase):
    def report(self, problems):
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_a_room_includes_only_rooms_below_it(self):
        problems = []
        for name in ROOM_SOURCES:
            room = name.split("/")[0]
            for number, included in includes_of(name):
                target = included.split("/")[0]
                if target in ROOMS and target != room and target not in MAY_INCLUDE[room]:
                    problems.append(f"{name}:{number}: {room}/ may not include {included}")
        self.report(problems)

    def test_headers_of_ours_are_named_from_the_root(self):
        problems = []
        for name in ROOM_SOURCES:
            for number, included in includes_of(name):
                if included.split("/")[0] not in ROOMS:
                    problems.append(f'{name}:{number}: "{included}" is not a path from the root')
        self.report(problems)

    def test_the_rooms_never_include_tests_or_benchmarks(self):
        problems = [f"{name}:{number}: includes {included}" for name in ROOM_SOURCES
                    for number, included in includes_of(name)
                    if included.startswith(("tests/", "benchmarks/"))]
        self.report(problems)

    def test_folders_that_know_less_include_less(self):
        problems = []
        for folder, rule in STRICTER.items():
            for name in [name for name in ROOM_SOURCES if name.startswith(folder + "/")]:
                for number, included in includes_of(name):
                    if any(included.startswith(other + "/") for other in rule["may_not_include"]):
                        problems.append(f"{name}:{number}: {folder}/ may not include {included}")
                for number, included in system_includes_of(name):
                    if re.fullmatch(rule["system"], included):
                        problems.append(f"{name}:{number}: {folder}/ may not include {included}")
        self.report(problems)

    def test_the_channel_knows_what_a_child_is_called_and_no_more_of_the_configuration(self):
        problems = [f"{name}:{number}: channel/ may not include {included}" for name in ROOM_SOURCES
                    if name.startswith("channel/") for number, included in includes_of(name)
                    if included.startswith("config/") and included != "config/child_id.hpp"]
        self.report(problems)

    def test_dataplane_types_stay_out_of_pure_rooms(self):
        problems = [f"{name}:{number}: DPDK belongs to dataplane/" for name in ROOM_SOURCES
                    if not name.startswith("dataplane/")
                    for number, included in system_includes_of(name) if included.startswith("<rte_")]
        self.report(problems)


class Tidiness(unittest.TestCase):
    def report(self, problems):
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_every_top_folder_says_what_lives_there(self):
        self.report([f"{folder}/README.md is missing" for folder in TOP_FOLDERS_WITH_README
                     if (ROOT / folder).is_dir() and any(name.startswith(folder + "/") for name in FILES)
                     and not (ROOT / folder / "README.md").is_file()])

    def test_every_script_says_what_it_does_before_it_does_anything(self):
        problems = []
        for script in sorted((ROOT / "scripts").iterdir()):
            if script.suffix in (".md", ".txt") or script.name == "simulate":  # the program says it
                continue
            answer = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=20, check=False)
            if answer.returncode != 0 or f"scripts/{script.name}" not in answer.stdout:
                problems.append(f"scripts/{script.name} --help: exit {answer.returncode}: {answer.stderr or answer.stdout}")
        self.report(problems)

    def test_a_file_is_one_idea(self):
        problems = []
        for name in SOURCES:
            if name.startswith(("tests/", "benchmarks/")):
                continue
            count = len(lines_of(name))
            if count > MAX_LINES:
                problems.append(f"{name}: {count} lines, more than {MAX_LINES}: which two files are these?")
        self.report(problems)

    def test_nothing_is_left_to_do(self):
        words = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|not implemented)\b")
        self.report([f"{name}:{number}: {line.strip()}" for name in FILES
                     if pathlib.Path(name).suffix in TEXT_SUFFIXES
                     and not name.startswith("tests/unit/house/")
                     for number, line in enumerate(lines_of(name), 1) if words.search(line)])

    def test_switches_over_enums_have_no_default(self):
        # A switch whose labels are qualified names is one over an enum class.
        problems = []
        for name in ROOM_SOURCES:
            code = list(without_comments(lines_of(name)))
            for number, line in enumerate(code, 1):
                if not re.match(r"\s*default\s*:", line):
                    continue
                before = code[max(0, number - 40):number - 1]
                for earlier in reversed(before):
                    if re.search(r"\bswitch\s*\(", earlier):
                        break
                    if re.search(r"\bcase\s+[A-Z]\w*::[a-z]\w*\s*:", earlier):
                        problems.append(f"{name}:{number}: default in a switch over an enum")
                        break
        self.report(problems)

    def test_the_packet_path_neither_locks_nor_allocates_nor_throws(self):
        problems = []
        for name in ROOM_SOURCES:
            if not name.startswith("dataplane/worker/"):
                continue
            for number, line in enumerate(without_comments(lines_of(name)), 1):
                for pattern in NOT_ON_THE_PACKET_PATH:
                    if re.search(pattern, line):
                        problems.append(f"{name}:{number}: {line.strip()}")
        self.report(problems)

    def test_headers_are_included_once(self):
        self.report([f"{name}: #pragma once is missing" for name in SOURCES if name.endswith(".hpp")
                     and not any(line.strip() == "#pragma once" for line in lines_of(name))])

    def test_a_header_opens_with_what_it_is_for(self):
        self.report([f"{name}: the first line tells nothing" for name in ROOM_SOURCES
                     if name.endswith(".hpp") and not lines_of(name)[0].startswith("//")])

    def test_no_path_of_somebodys_machine(self):
        # /tmp is a scratch folder of the machine one sits at; programs ask for one (mkdtemp).
        pattern = re.compile(r"""(?<![\w.$}])/(home|work|root|Users)/[\w.]""")
        self.report([f"{name}:{number}: {line.strip()}" for name in FILES
                     if pathlib.Path(name).suffix in TEXT_SUFFIXES
                     and not name.startswith("tests/unit/house/")
                     for number, line in enumerate(lines_of(name), 1) if pattern.search(line)])

    def test_no_sleeping_in_unit_tests(self):
        pattern = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep)\b|(?<!no)\bsleep\s*\(")
        self.report([f"{name}:{number}: {line.strip()}" for name in SOURCES
                     if name.startswith("tests/unit/")
                     for number, line in enumerate(without_comments(lines_of(name)), 1)
                     if pattern.search(line)])

    def test_what_a_test_draws_can_be_drawn_again(self):
        self.report([f"{name}:{number}: random_seed() of tests/random_seed.hpp" for name in SOURCES
                     if name.startswith("tests/") and name != "tests/random_seed.hpp"
                     for number, line in enumerate(without_comments(lines_of(name)), 1)
                     if "random_device" in line])

    def test_decisions_are_numbered_without_a_gap(self):
        numbers = sorted(int(pathlib.Path(name).name[:4]) for name in FILES
                         if re.fullmatch(r"docs/decisions/\d{4}-.*\.md", name))
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))


class Enumerations(unittest.TestCase):
    """A reason for a stopped packet or a failed negotiation has a test that produces it."""

    def values_of(self, header, enum):
        path = ROOT / header
        if not path.is_file():
            self.skipTest(f"{header} is not there")
        text = "\n".join(without_comments(path.read_text().splitlines()))
        found = re.search(r"enum\s+class\s+" + enum + r"\b[^{]*\{([^}]*)\}", text)
        self.assertIsNotNone(found, f"{header} has no enum class {enum}")
        values = [part.split("=")[0].strip() for part in found.group(1).split(",")]
        return [value for value in values if re.fullmatch(r"[a-z]\w*", value)]

    def named_in_tests(self, enum):
        text = "\n".join((ROOT / name).read_text(errors="replace") for name in FILES
                         if name.startswith("tests/") and name.endswith((".cpp", ".hpp", ".py"))
                         and not name.startswith("tests/unit/house/"))
        return lambda value: re.search(r"\b" + re.escape(value) + r"\b", text)

    def test_every_drop_reason_is_named_by_a_test(self):
        named = self.named_in_tests("DropReason")
        missing = [value for value in self.values_of("dataplane/tables/drop_reason.hpp", "DropReason")
                   if value not in ("none", "count") and not named(value)]
        self.assertFalse(missing, f"no test names DropReason: {', '.join(missing)}")

    def test_reasons_that_are_dropped_elsewhere_are_named_there(self):
        here = "tests/unit/dataplane/pipeline/drop_reason_test.cpp"
        listed = re.search(r"elsewhere = \{(.*?)\};", (ROOT / here).read_text(), re.S).group(1)
        elsewhere = re.findall(r"\w+", re.sub(r"//.*", "", listed))
        self.assertIn("handoff_queue_full", elsewhere)
        # What names reasons only to compare tables, texts or models does not count.
        unit = "\n".join((ROOT / name).read_text() for name in FILES
                         if name.startswith("tests/unit/dataplane/") and name.endswith("_test.cpp")
                         and pathlib.Path(name).name not in ("drop_reason_test.cpp", "agreement_test.cpp"))
        scenarios = "\n".join((ROOT / name).read_text() for name in FILES if name.startswith("tests/scenarios/"))
        missing = [reason for reason in elsewhere if not re.search(rf'"{reason}"', scenarios)
                   and not re.search(rf"(DropReason::|(?<![.:\w])){reason}\b", unit)]
        self.assertFalse(missing, f"{here} leaves to others what no other test names: {', '.join(missing)}")

    def test_every_failure_is_named_by_a_test(self):
        named = self.named_in_tests("Failure")
        missing = [value for value in self.values_of("ike/machine/failure.hpp", "Failure")
                   if value not in ("none", "count") and not named(value)]
        self.assertFalse(missing, f"no test names Failure: {', '.join(missing)}")


class Advice(unittest.TestCase):
    """What messages and pages tell an operator to write can be written."""

    def keys(self):
        readers = "\n".join((ROOT / name).read_text() for name in FILES
                            if name.startswith("config/") and name.endswith(".cpp"))
        return set(re.findall(r'\b(?:take|require)\(\s*"(\w+)"', readers))

    def test_keys_of_the_data_plane_exist(self):
        reader = (ROOT / "config/read_dataplane.cpp").read_text()
        keys = set(re.findall(r'\b(?:take|require)\(\s*"(\w+)"', reader[reader.index("void read_dataplane("):]))
        self.assertIn("workers", keys)
        problems = []
        for name in FILES:
            if name not in ROOM_SOURCES and not name.endswith((".md", ".yaml", ".service")):
                continue
            for number, line in enumerate(lines_of(name), 1):
                text = " ".join(re.findall(r'"((?:\\.|[^"\\])*)"', line)) if name in ROOM_SOURCES else line
                problems += [f"{name}:{number}: dataplane.{key} is no key" for key in
                             re.findall(r"(?<![\w.-])dataplane\.([a-z_]+)", text)
                             if key not in keys and key not in ("sock", "log")]
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_words_of_a_drop_reasons_remedy_exist(self):
        text = (ROOT / "dataplane/tables/drop_reason.cpp").read_text()
        text = text[text.index("kTable{"):]
        known = set(re.findall(r'\{(\w+), "\1"', text)) | self.keys()
        self.assertIn("no_buffer", known)
        unknown = sorted(set(re.findall(r"\b[a-z]+_[a-z_]+\b", " ".join(re.findall(r'"([^"]*)"', text)))) - known)
        self.assertFalse(unknown, f"neither a reason nor a key: {', '.join(unknown)}")


class Deployment(unittest.TestCase):
    """Alerts and dashboards speak of what the daemons export."""

    def text_of(self, *suffixes):
        return "\n".join((ROOT / name).read_text() for name in FILES
                         if name.startswith("deploy/") and name.endswith(suffixes))

    def test_every_metric_in_deploy_is_in_the_reference(self):
        reference = (ROOT / "docs/reference/control-protocol.md").read_text()
        used = set(re.findall(r"\bculvert_[a-z_]+\b", self.text_of(".yaml", ".json")))
        self.assertTrue(used)
        unknown = sorted(name for name in used if name not in reference)
        self.assertFalse(unknown, f"not in docs/reference/control-protocol.md: {', '.join(unknown)}")

    def test_a_service_that_does_not_start_is_started_again_without_end(self):
        """systemd gives up after five starts in ten seconds: a device may come later than that."""
        units = [name for name in FILES if name.startswith("deploy/") and name.endswith(".service")]
        self.assertEqual(len(units), 2)
        for name in units:
            about, _, service = (ROOT / name).read_text().partition("[Service]")
            self.assertRegex(about, r"(?m)^StartLimitIntervalSec=0$", name)
            self.assertRegex(service, r"(?m)^Restart=(always|on-failure)$", name)

    def test_the_guide_installs_the_key_that_the_configuration_names(self):
        named = re.search(r"psk_file: ([\w.]+)", (ROOT / "README.md").read_text()).group(1)
        for page in ("README.md", "docs/deployment.md"):
            installed = re.search(r"install -m 0640 -o root -g culvert .*/etc/culvert/", (ROOT / page).read_text())
            self.assertIsNotNone(installed, page)
            self.assertIn(named, installed.group(0).split(), page)

    def test_every_drop_reason_in_an_alert_exists(self):
        header = ROOT / "dataplane/tables/drop_reason.hpp"
        if not header.is_file():
            self.skipTest("there is no table of drop reasons")
        known = set(re.findall(r"\b[a-z]\w+\b", header.read_text()))
        for list_of_reasons in re.findall(r'culvert_drops_total\{reason=~?"([^"]+)"', self.text_of(".yaml")):
            for reason in list_of_reasons.split("|"):
                self.assertIn(reason, known)

    def test_every_failure_of_a_negotiation_is_in_the_reference(self):
        """Its whole row: the operator reads there what the daemon says."""
        reference = (ROOT / "docs/reference/failures.md").read_text().splitlines()
        text = (ROOT / "ike/machine/failure.cpp").read_text()
        names = re.findall(r'^    \{(\w+), "\1"', text, re.M)
        literals = r'((?:"[^"]*"\s*)+)'
        rows = {name: " | ".join(["| `" + name + "`", source, *map(self.joined, words)]) + " |"
                for name, source, *words in re.findall(
                    r'\{(\w+), "\1", "([^"]+)",\s*' + literals + r",\s*" + literals +
                    r"(?:,\s*kAuthentication)?\}", text)}
        self.assertGreater(len(names), 30)
        self.assertEqual(names, list(rows))
        missing = [name for name in names if rows[name] not in reference]
        self.assertFalse(missing, f"not as in the code in docs/reference/failures.md: {', '.join(missing)}")

    def joined(self, literals):
        return "".join(re.findall(r'"([^"]*)"', literals))


if __name__ == "__main__":
    unittest.main(verbosity=2)
