"""The file browser: everything that a person does with files, and what others do meanwhile."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import PHONE, Browser, Site
from checks import hard_to_read, nameless, too_wide
from cluster import Demo
from selenium.webdriver.common.keys import Keys

LIST = ".files tbody"
VIEWER = "dialog.viewer"


def png(width: int, height: int) -> bytes:
    """A picture in one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x33\x66\x99" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def content(site: Site, href: str) -> bytes:
    return site.api.get(f"/v1/files/{href}?consistency=linearizable").raise_for_status().content


def put(site: Site, href: str, data: bytes) -> None:
    site.api.put(f"/v1/files/{href}", content=data).raise_for_status()


def names(page: Browser) -> list[str]:
    return [each.text for each in page.all(f"{LIST} td.what .name")]


@pytest.fixture
def here(page: Browser, site: Site, request: pytest.FixtureRequest) -> Iterator[str]:
    """A directory of this test's own."""
    name = request.node.name.replace("[", "-").replace("]", "")
    site.api.put(f"/v1/directories/{name}").raise_for_status()
    yield name
    site.api.delete(f"/v1/files/{name}?recursive=true")


def go(page: Browser, address: str) -> None:
    page.run("location.hash = arguments[0]", address)


@pytest.mark.slow
def test_a_file_is_uploaded_by_the_button(page: Browser, site: Site, here: str, tmp_path: Path) -> None:
    file = tmp_path / "hello.txt"
    file.write_text("hi\n")
    go(page, f"#files/{here}")
    page.see(LIST, "This folder is empty.")
    page.all("#pick-files")[0].send_keys(str(file))
    page.see(LIST, "hello.txt")
    page.see(".toast", "Uploaded.")
    assert content(site, f"{here}/hello.txt") == b"hi\n"


def test_files_are_uploaded_by_dropping_them(page: Browser, site: Site, here: str) -> None:
    given = {f"{number}.txt": b"%d" % number for number in range(5)}
    go(page, f"#files/{here}")
    page.see(LIST, "This folder is empty.")
    page.drop(".browser", given)
    page.see(".toast", "5 uploaded.")
    page.until(lambda: names(page) == sorted(given), "list of them all")
    assert {name: content(site, f"{here}/{name}") for name in given} == given


def test_a_directory_has_no_time_of_its_own(page: Browser, site: Site, here: str) -> None:
    put(site, f"{here}/inner/file.txt", b"x")
    go(page, f"#files/{here}")
    page.see(LIST, "inner")
    assert "1970" not in page.all(LIST)[0].text


def test_what_is_there_is_never_replaced_unasked(page: Browser, site: Site, here: str) -> None:
    put(site, f"{here}/a.txt", b"old")
    go(page, f"#files/{here}")
    page.see(LIST, "a.txt")
    page.drop(".browser", {"a.txt": b"new"})
    page.see("dialog", f"{here}/a.txt exists already")
    page.press("Cancel", "dialog")
    page.see(".transfers .done .quiet", "left as it was")
    assert content(site, f"{here}/a.txt") == b"old"
    page.drop(".browser", {"a.txt": b"new"})
    page.see("dialog", "exists already")
    page.answer("Upload")
    page.see(LIST, "a (2).txt")
    assert content(site, f"{here}/a%20(2).txt") == b"new"
    page.drop(".browser", {"a.txt": b"newest"})
    page.see("#conflict-replace").click()
    page.answer("Upload")
    page.see(".transfers .done .quiet", "replaced")
    assert content(site, f"{here}/a.txt") == b"newest"


@pytest.mark.slow
def test_one_answer_may_count_for_all_names_that_are_taken(page: Browser, site: Site, here: str) -> None:
    taken = {f"{number}.txt": b"new" for number in range(4)}
    for name in taken:
        put(site, f"{here}/{name}", b"old")
    go(page, f"#files/{here}")
    page.see(LIST, "0.txt")
    page.drop(".browser", taken)
    page.see("#conflict-replace").click()
    page.see("#conflict-all").click()
    page.answer("Upload")
    page.see(".toast", "4 uploaded.")
    assert {content(site, f"{here}/{name}") for name in taken} == {b"new"}


@pytest.mark.slow
def test_text_and_pictures_are_shown_and_other_bytes_as_bytes(page: Browser, site: Site, here: str) -> None:
    put(site, f"{here}/notes.txt", "Grüße\n".encode() * 3)
    put(site, f"{here}/picture", png(30, 20))
    put(site, f"{here}/bytes", bytes(range(256)))
    put(site, f"{here}/empty", b"")
    go(page, f"#file/{here}/notes.txt")
    assert page.see(f"{VIEWER} pre").text == "Grüße\nGrüße\nGrüße"
    go(page, f"#file/{here}/picture")
    image = page.see(f"{VIEWER} img")
    page.until(lambda: page.run("return arguments[0].naturalWidth", image) == 30, "picture")
    go(page, f"#file/{here}/bytes")
    assert "0010  10 11 12" in page.see(f"{VIEWER} pre", "0000").text
    go(page, f"#file/{here}/empty")
    page.see(VIEWER, "This file is empty.")


@pytest.mark.slow
def test_a_long_text_is_cut_and_says_so(page: Browser, site: Site, here: str) -> None:
    put(site, f"{here}/long.log", "naïve line\n".encode() * 40_000)
    go(page, f"#file/{here}/long.log")
    page.see(VIEWER, "The first 128 KiB of 469 KiB.")


@pytest.mark.slow
def test_a_file_is_renamed_and_moved(page: Browser, site: Site, here: str) -> None:
    put(site, f"{here}/old.txt", b"x")
    site.api.put(f"/v1/directories/{here}/deeper").raise_for_status()
    go(page, f"#files/{here}")
    page.press("Rename or move old.txt")
    page.answer("Rename", Name="new name.txt")
    page.until(lambda: names(page) == ["deeper", "new name.txt"], "the new name")
    assert content(site, f"{here}/new%20name.txt") == b"x"
    page.press("Rename or move new name.txt")
    page.answer("Rename", In_folder=f"/{here}/deeper")
    page.until(lambda: names(page) == ["deeper"], "the file's leaving")
    assert content(site, f"{here}/deeper/new%20name.txt") == b"x"


@pytest.mark.slow
def test_a_name_that_cannot_be_is_refused_before_it_is_sent(page: Browser, site: Site, here: str) -> None:
    go(page, f"#files/{here}")
    page.press("New folder")
    for wrong, says in (("", "Type a name."), ("a/b", "holds no"), ("..", "means a place"), ("ü" * 128, "too long")):
        field = page.see("dialog.question input")
        field.clear()
        field.send_keys(wrong)
        page.press("Make it", "dialog.question")
        page.see("dialog .error", says)
    page.answer("Make it", Name="a folder")
    page.see(LIST, "a folder")


@pytest.mark.slow
def test_deleting_asks_and_says_what_goes(page: Browser, site: Site, here: str) -> None:
    put(site, f"{here}/sub/x.txt", b"x")
    go(page, f"#files/{here}")
    page.press("Delete sub")
    page.see("dialog", "everything in it")
    page.press("Cancel", "dialog")
    page.gone("dialog")
    page.press("Delete sub")
    page.answer("Delete")
    page.see(LIST, "This folder is empty.")
    assert site.api.get(f"/v1/files/{here}/sub/x.txt?consistency=linearizable").status_code == 404


def test_deleting_what_somebody_changed_meanwhile_deletes_nothing(page: Browser, site: Site, here: str) -> None:
    put(site, f"{here}/a.txt", b"one")
    go(page, f"#files/{here}")
    page.press("Delete a.txt")
    put(site, f"{here}/a.txt", b"two")
    page.answer("Delete")
    page.see(".toast.bad")
    assert content(site, f"{here}/a.txt") == b"two"


@pytest.mark.slow
def test_the_history_of_a_file_is_told(page: Browser, site: Site, here: str) -> None:
    for version in (b"1", b"22", b"333"):
        put(site, f"{here}/a.txt", version)
    go(page, f"#file/{here}/a.txt")
    page.see(f"{VIEWER} .history", "created")
    newest = page.all(f"{VIEWER} .history td")[0].text
    page.see(f"{VIEWER} .facts-list", f"Since change\n{newest}")
    verbs = [each.text for each in page.all(f"{VIEWER} .history .verb")]
    assert verbs == ["edited", "edited", "created"]
    page.keys(Keys.ESCAPE)
    go(page, "#changes")
    page.see(".history .wide", f"{here}/a.txt")


@pytest.mark.slow
def test_a_download_has_the_bytes_of_the_file(page: Browser, site: Site, here: str) -> None:
    data = bytes(range(256)) * 3000
    put(site, f"{here}/data.bin", data)
    go(page, f"#files/{here}")
    page.press("Download data.bin")
    file = page.downloads / "data.bin"
    page.until(lambda: file.exists() and file.stat().st_size == len(data), "download")
    assert file.read_bytes() == data


def test_what_others_change_appears_by_itself(page: Browser, running: Demo, here: str) -> None:
    leader = running.folder("node1") / here
    go(page, f"#files/{here}")
    (leader / "live.txt").write_text("1")
    page.see(LIST, "live.txt")
    (leader / "live.txt").rename(leader / "renamed.txt")
    page.until(lambda: names(page) == ["renamed.txt"], "the new name")
    go(page, f"#file/{here}/renamed.txt")
    assert page.see(f"{VIEWER} pre").text == "1"
    (leader / "renamed.txt").write_text("22")
    page.see(VIEWER, "This just changed")
    page.see(f"{VIEWER} pre", "22")
    (leader / "renamed.txt").unlink()
    page.see(VIEWER, "This was just removed.")
    page.keys(Keys.ESCAPE)
    page.see(LIST, "This folder is empty.")
    go(page, "#overview")
    page.see(".changes li", f"removed {here}/renamed.txt")
    page.see(".changes li .delay", "ms")


@pytest.mark.slow
def test_a_name_that_is_no_text_can_be_seen_renamed_and_removed(
    page: Browser, site: Site, running: Demo, here: str
) -> None:
    put(site, f"{here}/caf%E9%20%FF.txt", b"latin")
    site.api.put(f"/v1/directories/{here}/in").raise_for_status()
    go(page, f"#files/{here}")
    page.until(lambda: names(page) == ["in", "caf\\xe9 \\xff.txt"], "the name")
    page.press("Details of caf\\xe9 \\xff.txt")
    page.see(f"{VIEWER} pre", "latin")
    page.press("Rename or move", VIEWER)
    page.answer("Rename", In_folder=f"/{here}/in")
    page.until(lambda: names(page) == ["in"], "the file's leaving")
    running.wait()
    assert (running.folder("node3") / here / "in").is_dir()
    assert content(site, f"{here}/in/caf%E9%20%FF.txt") == b"latin"


def test_everything_is_done_with_the_keyboard_alone(page: Browser, site: Site, here: str) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        put(site, f"{here}/{name}", name.encode())
    go(page, f"#files/{here}")
    page.until(lambda: names(page) == ["a.txt", "b.txt", "c.txt"], "three files")
    for _ in range(30):
        page.keys(Keys.TAB)
        if page.focused() == "a.txt":
            break
    page.keys(Keys.ARROW_DOWN)
    assert page.focused() == "b.txt"
    page.keys(Keys.ENTER)
    page.see(f"{VIEWER} pre", "b.txt")
    page.keys(Keys.ESCAPE)
    page.gone("dialog")
    page.until(lambda: page.focused() == "b.txt", "the focus where it was")
    page.keys(Keys.F2)
    page.see("dialog.question")
    page.keys("z.txt", Keys.ENTER)
    page.until(lambda: names(page) == ["a.txt", "c.txt", "z.txt"], "the new name")
    page.keys("/", "c.t")
    page.until(lambda: names(page) == ["c.txt"], "the filter's match")
    page.keys(Keys.TAB)
    while page.focused() != "c.txt":
        page.keys(Keys.TAB)
    page.keys(Keys.ARROW_RIGHT)
    assert page.focused() == "Download c.txt"
    page.keys(Keys.DELETE)
    page.see("dialog.question", "Delete c.txt?")
    page.keys(Keys.TAB, Keys.ENTER)
    page.see(".toast", "c.txt is deleted.")
    page.keys("n")
    page.see("dialog", "New folder")
    page.keys("folder", Keys.ENTER)
    page.until(lambda: site.api.get(f"/v1/list/{here}/folder").status_code == 200, "the folder")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_everybody_can_use_the_files(page: Browser, site: Site, here: str, theme: str, size: str) -> None:
    put(site, f"{here}/{'long-name-' * 20}.txt", b"text\n")
    put(site, f"{here}/sub/picture.png", png(30, 20))
    page.prefer(prefers_color_scheme=theme)
    if size == "phone":
        page.resize(PHONE)
    go(page, f"#files/{here}")
    page.see(LIST, "sub")
    for address, sign in (
        (f"#files/{here}", LIST),
        (f"#file/{here}/{'long-name-' * 20}.txt", f"{VIEWER} .history"),
        (f"#file/{here}/sub/picture.png", f"{VIEWER} img"),
        ("#changes", ".history"),
    ):
        go(page, address)
        page.see(sign)
        assert nameless(page) == []
        assert hard_to_read(page) == []
        assert too_wide(page) == []
