#!/usr/bin/python3
"""docs/compliance: every row names code that quotes the rule and a test that is there."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
TABLES = sorted((ROOT / "docs/compliance").glob("rfc*.md"))
ROW = re.compile(r"^\| (?P<tag>rfc\S+) \| (?P<rule>[^|]+) \| `(?P<code>[^`]+)` \| "
                 r"`(?P<test>[^`]+)` (?P<name>[^|]+?) \|$")
TAG = re.compile(r"rfc(?P<number>\d+)-(?P<section>[A-Z]?[\d.]+)-[a-z]")


def rows():
    """(file:line, matched row or None, the line) of everything that begins like a row."""
    for table in TABLES:
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            if line.startswith("| rfc"):
                yield f"{table.name}:{number}", ROW.match(line), line


def text_of(name):
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.is_file() else None


def flat(source):
    """Source with a test's name in one piece: clang-format breaks long literals."""
    return re.sub(r"\s+", " ", re.sub(r'"\s*\n\s*"', "", source))


def sections_around(section):
    """3.4.4.2, 3.4.4, 3.4: code may quote the rule's section or one that holds it."""
    parts = section.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), min(2, len(parts)) - 1, -1)]


class Compliance(unittest.TestCase):
    def report(self, problems):
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_every_rule_has_a_row_that_can_be_read(self):
        self.assertGreaterEqual(len(list(rows())), 40)
        self.report([f"{where}: not | tag | rule | `code` | `test` name |: {line}"
                     for where, row, line in rows() if row is None])

    def test_a_tag_says_which_rfc_and_section_and_stands_once(self):
        problems, seen = [], {}
        for where, row, _ in rows():
            tag = row and TAG.fullmatch(row["tag"])
            if not tag or not where.startswith(f"rfc{tag['number']}.md"):
                problems.append(f"{where}: the tag does not belong here")
            elif row["tag"] in seen:
                problems.append(f"{where}: {row['tag']} stands at {seen[row['tag']]} already")
            else:
                seen[row["tag"]] = where
        self.report(problems)

    def test_the_code_is_there_and_quotes_the_rule(self):
        problems = []
        for where, row, _ in rows():
            if row is None or not TAG.fullmatch(row["tag"]):
                continue
            source, tag = text_of(row["code"]), TAG.fullmatch(row["tag"])
            wanted = "|".join(re.escape(f"§{section}") + r"(?!\.?\d)"
                              for section in sections_around(tag["section"]))
            if source is None:
                problems.append(f"{where}: there is no {row['code']}")
            elif f"RFC {tag['number']}" not in source or not re.search(wanted, source):
                problems.append(f"{where}: {row['code']} does not quote RFC {tag['number']} "
                                f"§{tag['section']}")
        self.report(problems)

    def test_the_test_is_there_by_that_name(self):
        problems = []
        for where, row, _ in rows():
            if row is None:
                continue
            source = text_of(row["test"])
            if source is None:
                problems.append(f"{where}: there is no {row['test']}")
            elif row["name"] not in flat(source):
                problems.append(f"{where}: {row['test']} has no test \"{row['name']}\"")
        self.report(problems)


if __name__ == "__main__":
    unittest.main()
