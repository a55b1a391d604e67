"""tools/count_code.py, on files whose lines were counted by hand."""

import json

import count_code

MODULE = '''"""What it is,
told in two lines."""

import os  # with a comment

# a comment


class Thing:
    """A thing."""

    text = """not a
docstring"""

    def go(self):
        """Goes."""
        return os.path.join(
            "a",

            "b",
        )
'''


def test_lines_that_are_code():
    assert count_code.lines_of_docstrings(MODULE) == {1, 2, 10, 16}
    assert count_code.lines_of_code(MODULE) == {4, 9, 12, 13, 15, 17, 18, 20, 21}


def test_a_folder(tmp_path, capsys):
    (tmp_path / "room").mkdir()
    (tmp_path / "__init__.py").write_text('"""The top."""\n\nVERSION = 1\n')
    (tmp_path / "room" / "__init__.py").write_text("")
    (tmp_path / "room" / "short.py").write_text("A = 1\n\nB = 2\n")
    (tmp_path / "room" / "long.py").write_text(MODULE)
    (tmp_path / "room" / "notes.txt").write_text("C = 3\n")
    count_code.main([str(tmp_path)])
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "modules": 2,
        "code_lines": 1 + 2 + 9,
        "documented": 1 + 4,
        "median": (3 + 21) / 2,
        "longest": {"file": "room/long.py", "lines": 21},
    }


def test_the_package_is_what_is_counted_unless_another_folder_is_named(capsys):
    count_code.main([])
    found = json.loads(capsys.readouterr().out)
    assert found["modules"] > 50 and found["code_lines"] > 50 * found["modules"]
