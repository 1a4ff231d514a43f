"""Noticing that a file has changed since it was read."""

from pathlib import Path

from kitelake.config.reload import FileWatch


def test_what_changes_after_the_watch_was_made_is_noticed_once(tmp_path: Path) -> None:
    file, gone = tmp_path / "list.txt", tmp_path / "gone.txt"
    file.write_text("NSE:INFY\n")
    gone.write_text("NSE:INFY\n")
    watch = FileWatch([file, gone])
    assert watch.changed([file, gone]) == []
    file.write_text("NSE:INFY\nNSE:TCS\n")
    gone.unlink()
    assert watch.changed([file, gone]) == [file, gone]
    assert watch.changed([file, gone]) == []
    gone.write_text("")
    assert watch.changed([file, gone]) == [gone]


def test_a_file_that_is_named_later_may_have_changed_since_it_was_read(tmp_path: Path) -> None:
    """Whoever named it read it before this look: what was written in between would else never be noticed."""
    file = tmp_path / "list.txt"
    file.write_text("NSE:INFY\n")
    watch = FileWatch([])
    assert watch.changed([file]) == [file]
    assert watch.changed([file]) == []
    assert watch.changed([]) == []
    assert watch.changed([file]) == [file]  # named again
