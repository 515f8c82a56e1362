"""The mutations: small changes to the code that break a guarantee, and for each the test that fails then.

`before` stands exactly once in `file`. A change to the code that takes it away must bring another mutation of the same
promise, and `./scripts/mutation_check.sh` says whether that is caught. G7 is measured, not tested, so it has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SIMULATED = "tests/simulation/test_simulation.py::test_the_guarantees_hold_in_the_fixed_runs"


class Mutation(NamedTuple):
    """`what` says what the code then does wrong. Each of `tests` fails then."""

    guarantee: str
    file: str
    what: str
    before: str
    after: str
    tests: tuple[str, ...]


def is_slow(test: str) -> bool:
    """Whether it is one of whole clusters: real, simulated, or under faults."""
    return test.startswith(("tests/live/", "tests/faults/", "tests/simulation/"))


def markdown() -> str:
    """The table in GUARANTEES.md."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "| guarantee | kept in | mutation | caught by |"
    yield "|---|---|---|---|"
    rows = [(each.guarantee, f"`{each.file}`", each.what, ", ".join(map(_shown, each.tests))) for each in MUTATIONS]
    rows.append(("G7", "", "none: it is measured, not tested", ""))
    for row in sorted(rows, key=lambda row: row[0]):
        yield f"| {' | '.join(row)} |"


def _shown(test: str) -> str:
    return f"`{test.rpartition('::')[2]}`" + " (slow)" * is_slow(test)


MUTATIONS = (
    # ------------------------------------------------------------------------------------------------ G1
    Mutation(
        "G1",
        "onefold/core/quorum.py",
        "replicas count towards a majority",
        "len(self._voters & {*agreeing, self._me})",
        "len({*agreeing, self._me})",
        ("tests/core/test_quorum.py::test_g1_replicas_have_no_vote",),
    ),
    Mutation(
        "G1",
        "onefold/core/quorum.py",
        "who differs is not remembered",
        "known.differs = min(index for index in common if known.told[index] != own[index])",
        "known.differs = NOT_YET",
        ("tests/core/test_quorum.py::test_g1_the_two_of_three_that_agree_go_on_and_the_odd_one_stops",),
    ),
    Mutation(
        "G1",
        "onefold/core/quorum.py",
        "a minority against it makes a node odd",
        "Standing.ODD if any(map(self._majority, others.values())) else",
        "Standing.ODD if others else",
        ("tests/core/test_quorum.py::test_g1_a_node_with_only_a_minority_against_it_is_not_odd",),
    ),
    Mutation(
        "G1",
        "onefold/core/catalogue.py",
        "the digest does not tell of a removal",
        "        self.digest -= row_digest(row)\n",
        "",
        ("tests/core/test_catalogue.py::test_the_digest_is_the_sum_of_all_rows_and_files_are_all_but_directories",),
    ),
    Mutation(
        "G1",
        "onefold/core/copy.py",
        "a copy has what changed while it was taken",
        "self._before.setdefault(id, change.before)",
        "pass",
        ("tests/core/test_copy.py::test_whatever_is_applied_meanwhile_every_page_is_of_one_index",),
    ),
    Mutation(
        "G1",
        "onefold/node/catch_up.py",
        "a copied catalogue is not compared with its digest",
        "if digest % (1 << 256) != expected or files != first.files:",
        "if files != first.files:",
        ("tests/node/test_catch_up.py::test_it_is_taken_from_another_where_one_gives_nonsense",),
    ),
    Mutation(
        "G1",
        "onefold/node/give.py",
        "an odd node gives its catalogue all the same",
        "if distrust := self._distrust():",
        'if distrust := "":',
        ("tests/node/test_catch_up.py::test_g1_a_node_whose_catalogue_is_not_to_be_trusted_does_not_give_it",),
    ),
    Mutation(
        "G1",
        "onefold/node/lead.py",
        "a node that stood down takes leadership all the same",
        "if self.fit and self.leader == leader and not (",
        "if self.leader == leader and not (",
        ("tests/node/test_lead.py::test_what_is_taken_after_standing_down_was_decided_is_not_taken",),
    ),
    Mutation(
        "G1",
        "onefold/node/apply.py",
        "any pack that is expected is taken for the one that an entry names",
        "        if entry.digest in self._expected:\n            return self._expected[entry.digest]",
        "        if self._expected:\n            return next(iter(self._expected.values()))",
        ("tests/node/test_apply.py::test_g1_a_pack_that_is_expected_is_not_taken_for_that_of_another_entry",),
    ),
    Mutation(
        "G1",
        "onefold/node/apply.py",
        "the digests that peers tell are compared with nothing",
        "self._quorum.hear(peer, digests, self._digests)",
        "self._quorum.hear(peer, digests, {})",
        ("tests/live/test_divergence.py::test_g1_an_odd_leader_stops_and_the_others_go_on",),
    ),
    # ------------------------------------------------------------------------------------------------ G2
    Mutation(
        "G2",
        "onefold/node/hold.py",
        "one voter less is a majority",
        "self._majority = len(voters) // 2 + 1",
        "self._majority = len(voters) // 2",
        (
            "tests/node/test_hold.py::test_a_pack_that_no_majority_holds_is_a_problem_until_one_does",
            SIMULATED,
        ),
    ),
    Mutation(
        "G2",
        "onefold/node/durable.py",
        "an object is let go before a majority has it for good",
        "majority = min(reached(durable_of_voters, voters // 2 + 1), self.durable)",
        "majority = self.durable",
        ("tests/node/test_durable.py::test_g2_what_is_named_is_kept_until_that_is_durable_on_a_majority",),
    ),
    Mutation(
        "G2",
        "onefold/node/durable.py",
        "what was held before a restart is let go with the next entry",
        "                self._restored.add(digest)",
        "                self._named[digest] = index",
        (
            "tests/node/test_durable.py::"
            "test_g2_what_was_held_before_a_restart_is_kept_until_a_later_term_has_not_named_it",
        ),
    ),
    Mutation(
        "G2",
        "onefold/node/durable.py",
        "what is held for an entry to come is let go within its term",
        "if term < entry.term]",
        "if term <= entry.term]",
        (
            "tests/node/test_durable.py::"
            "test_g2_what_is_held_for_a_later_term_outlives_the_term_that_it_was_held_for_first",
        ),
    ),
    Mutation(
        "G2",
        "onefold/node/durable.py",
        "what is not synced yet is called durable",
        "                await asyncio.to_thread(self._sync)\n                self.durable = index\n",
        "                self.durable = index\n                await asyncio.to_thread(self._sync)\n",
        ("tests/node/test_durable.py::test_a_sync_that_fails_is_not_tried_again_but_ends_the_node",),
    ),
    Mutation(
        "G2",
        "onefold/edge/objects.py",
        "an object is not synced",
        "                os.fdatasync(fd)\n",
        "",
        ("tests/edge/test_objects.py::test_data_is_synced_before_the_name_and_the_name_before_the_return",),
    ),
    Mutation(
        "G2",
        "onefold/edge/objects.py",
        "the name of an object is not synced",
        "        _sync_directory(Path(name).parent)\n",
        "",
        ("tests/edge/test_objects.py::test_data_is_synced_before_the_name_and_the_name_before_the_return",),
    ),
    Mutation(
        "G2",
        "onefold/edge/objects.py",
        "what is stored is not compared with its digest",
        "if written != size or hasher.digest() != digest:",
        "if written != size:",
        ("tests/edge/test_objects.py::test_wrong_bytes_never_land",),
    ),
    Mutation(
        "G2",
        "onefold/node/trim.py",
        "the log is trimmed beyond what a majority has",
        "held = reached(voters, majority)",
        "held = head",
        (
            "tests/node/test_trim.py::test_the_log_is_trimmed_behind_the_slowest_live_node",
            SIMULATED,
        ),
    ),
    Mutation(
        "G2",
        "onefold/edge/etcd_member.py",
        "a lost member of etcd begins as a new one",
        "if not self._wiped and all(_never_started(ours) for ours in known):",
        "if not self._wiped:",
        ("tests/test_member.py::test_a_lost_member_waits_for_a_majority_and_says_so",),
    ),
    Mutation(
        "G2",
        "onefold/node/append.py",
        "an entry is appended though no majority holds its pack",
        "        while entry.pack is None:\n",
        "        while False:\n",
        (SIMULATED,),
    ),
    Mutation(
        "G2",
        "onefold/node/apply.py",
        "small contents that a crash took are not taken from the log again",
        "self._known = min(known, catalogue.index)",
        "self._known = catalogue.index",
        (
            "tests/node/test_apply.py::test_contents_that_a_crash_took_come_from_the_log",
            "tests/live/test_power_loss.py::"
            "test_what_a_crash_left_half_there_is_kept_aside_and_the_committed_version_returns",
        ),
    ),
    Mutation(
        "G2",
        "onefold/run.py",
        "a crash of the machine is not noticed",
        'crashed = base.boot_id not in ("", boot)',
        "crashed = False",
        (
            "tests/live/test_power_loss.py::"
            "test_what_a_crash_left_half_there_is_kept_aside_and_the_committed_version_returns",
        ),
    ),
    Mutation(
        "G2",
        "onefold/run.py",
        "that a run has begun is not on disk before it does anything",
        "        in_order = notice_boot(self._base, stored.durable, linux.boot_id(), self._suspicious)\n"
        "        incarnation = self._base.next_incarnation()",
        "        incarnation = self._base.next_incarnation()\n"
        "        in_order = notice_boot(self._base, stored.durable, linux.boot_id(), self._suspicious)",
        ("tests/faults/test_power.py::test_that_a_run_has_begun_is_on_disk_before_it_does_anything",),
    ),
    # ------------------------------------------------------------------------------------------------ G3
    Mutation(
        "G3",
        "onefold/edge/scan.py",
        "a file that may not be read is absent",
        '            return Unknown("permission denied; give the node read access")',
        "            return Absent()",
        ("tests/edge/test_scan.py::test_what_is_closed_to_us_is_unknown_and_a_strangers_file_is_read",),
    ),
    Mutation(
        "G3",
        "onefold/edge/scan.py",
        "what is not there is absent, also where the folder has lost its id file",
        'return Unknown(f"the folder\'s id file {show(ID_FILE)} cannot be found: {e.strerror}")',
        "return e and None",
        ("tests/edge/test_scan.py::test_nothing_is_absent_without_the_id_file",),
    ),
    Mutation(
        "G3",
        "onefold/core/diff.py",
        "a file has moved though nothing is known of its old place",
        "return o is None or isinstance(o, Unknown) or (isinstance(o, Present) and o.stat.same_file(row.stat))",
        "return o is None or (isinstance(o, Present) and o.stat.same_file(row.stat))",
        ("tests/core/test_diff.py::test_a_file_that_came_from_elsewhere_is_a_move_only_once_its_old_place_was_seen",),
    ),
    Mutation(
        "G3",
        "onefold/core/diff.py",
        "what is not known is taken for absent",
        "        if parent is None or isinstance(o, Unknown) or _is_directory(o):\n",
        "        if isinstance(o, Unknown):\n            o = Absent()\n"
        "        if parent is None or _is_directory(o):\n",
        ("tests/core/test_diff.py::test_unknown_proposes_nothing_and_neither_does_what_is_below",),
    ),
    Mutation(
        "G3",
        "onefold/core/catalogue.py",
        "an edit replaces a version that its author had not seen",
        "if row.version != put.expect:",
        "if False:",
        (
            "tests/core/test_catalogue.py::test_a_late_edit_becomes_a_copy_next_to_what_won",
            SIMULATED,
        ),
    ),
    Mutation(
        "G3",
        "onefold/core/catalogue.py",
        "a removal takes an edit along that its author had not seen",
        "if row.version != remove.expect:",
        "if False:",
        ("tests/core/test_catalogue.py::test_a_removal_does_not_take_an_edit_along",),
    ),
    Mutation(
        "G3",
        "onefold/core/catalogue.py",
        "rejected content is dropped",
        "if not put.content and put.id != NEW:",
        "if put:",
        ("tests/core/test_catalogue_properties.py::test_rejected_content_lives_on_as_the_copy_that_its_outcome_names",),
    ),
    Mutation(
        "G3",
        "onefold/core/inspect.py",
        "what may still be written to is taken for rot",
        "if not at_rest:",
        "if False:",
        ("tests/node/test_examine.py::test_g3_what_is_in_doubt_is_not_taken_for_rot",),
    ),
    Mutation(
        "G3",
        "onefold/edge/make.py",
        "what comes out of an exchange is removed, whatever it is",
        "        if verdict is Verdict.SAME or (verdict is Verdict.TOUCHED and not self.keep_edits):\n",
        "        if verdict:\n",
        (
            "tests/edge/test_materialise.py::test_an_edit_made_between_the_look_and_the_exchange_is_put_back",
            SIMULATED,
        ),
    ),
    Mutation(
        "G3",
        "onefold/edge/make.py",
        "an edit that gave way is removed instead of kept aside",
        "self.space.keep(came_out, path, reason)",
        "self.space.remove(came_out)",
        ("tests/edge/test_materialise.py::test_an_edit_found_after_the_exchange_becomes_a_stray",),
    ),
    Mutation(
        "G3",
        "onefold/edge/move.py",
        "what is dropped is removed, whatever it is",
        "        if verdict is Verdict.SAME or (verdict is Verdict.TOUCHED and not self.keep_edits):\n",
        "        if verdict:\n",
        (
            "tests/edge/test_materialise.py::test_an_edited_file_is_not_removed_where_edits_are_kept",
            SIMULATED,
        ),
    ),
    Mutation(
        "G3",
        "onefold/edge/workspace.py",
        "a file that a program holds open for writing is removed",
        "            held = not linux.set_read_lease(fd)\n",
        "            held = False\n",
        ("tests/edge/test_materialise.py::test_a_file_that_a_program_holds_open_for_writing_is_not_destroyed",),
    ),
    Mutation(
        "G3",
        "onefold/edge/workspace.py",
        "an edit whose time was set back is not seen",
        "if ctime_ns != base.stat.ctime_ns or not found.unchanged(base.stat) or _too_young(base.stat):",
        "if not found.unchanged(base.stat) or _too_young(base.stat):",
        ("tests/edge/test_materialise.py::test_an_edit_whose_mtime_was_set_back_is_seen",),
    ),
    Mutation(
        "G3",
        "onefold/edge/workspace.py",
        "a file that took the place of one just judged comes to look like that",
        "if not found.same_file(expected) or (row.kind is Kind.FILE and found.ctime_ns != expected.ctime_ns):",
        "if False:",
        (
            "tests/edge/test_materialise.py::"
            "test_a_file_that_takes_the_place_of_what_was_just_judged_does_not_come_to_look_like_it",
        ),
    ),
    Mutation(
        "G3",
        "onefold/edge/workspace.py",
        "a file that was written to since it was judged comes to look as before",
        "if not found.same_file(expected) or (row.kind is Kind.FILE and found.ctime_ns != expected.ctime_ns):",
        "if not found.same_file(expected):",
        ("tests/edge/test_materialise.py::test_what_was_written_to_since_it_was_judged_is_not_dressed",),
    ),
    Mutation(
        "G3",
        "onefold/edge/workspace.py",
        "a file is dressed that a program is writing to",
        "if reader is not None and not linux.hold_read_lease(reader):",
        "if False:",
        ("tests/edge/test_materialise.py::test_nobody_opens_a_file_for_writing_while_it_is_dressed",),
    ),
    Mutation(
        "G3",
        "onefold/edge/recover.py",
        "after a crash, what nobody can name is removed",
        "            if self._removed(name, candidates):\n",
        "            if self.space.remove(name) is None:\n",
        ("tests/edge/test_materialise_crash.py::test_a_crash_before_any_syscall_loses_nothing_and_invents_nothing",),
    ),
    Mutation(
        "G3",
        "onefold/edge/strays.py",
        "a copy is thrown away when its source could be removed only in part",
        "            copied = self._take(dir_fd, name, home / _KEPT)\n",
        "            copied = self._take(dir_fd, name, home / _KEPT)\n"
        "            if copied is not None:\n"
        "                copied = _remove(copied)\n",
        ("tests/edge/test_strays.py::test_g3_a_copy_is_kept_when_its_source_could_be_removed_only_in_part",),
    ),
    Mutation(
        "G3",
        "onefold/node/guard.py",
        "a folder of which most is gone is not asked about",
        "self._phase = Phase.LOOKING if held >= LARGE else Phase.OVER",
        "self._phase = Phase.OVER",
        (
            "tests/node/test_guard.py::"
            "test_when_more_than_half_is_gone_nothing_of_it_is_proposed_and_the_problem_tells_both_ways_out",
        ),
    ),
    Mutation(
        "G3",
        "onefold/claim.py",
        "a folder whose disk is not mounted is taken for an emptied one",
        "    if standing is not None or known is not None:\n",
        "    if standing is not None:\n",
        ("tests/test_bad_input.py::test_a_folder_whose_disk_is_not_mounted_is_not_taken_for_an_empty_one",),
    ),
    Mutation(
        "G3",
        "onefold/core/settle.py",
        "an edit on a node that does not lead is taken for what stood there before",
        'rows[command.id] = msgspec.structs.replace(old, version=NEVER, content=b"")',
        "rows[command.id] = msgspec.structs.replace(\n"
        "                    old, version=NEVER, content=command.content, size=command.size, stat=claim.seen.stat\n"
        "                )",
        (SIMULATED,),
    ),
    Mutation(
        "G3",
        "onefold/edge/make.py",
        "an edit that came out of an exchange is removed instead of put back",
        "        if self.keep_edits:\n            self._put_back(row, path, parent, name, new)\n",
        "        if self.keep_edits:\n            space.remove(new)\n",
        (SIMULATED,),
    ),
    # ------------------------------------------------------------------------------------------------ G4
    Mutation(
        "G4",
        "onefold/edge/make.py",
        "a copy that is not whole is placed",
        "if not whole:",
        "if False:",
        ("tests/edge/test_materialise.py::test_a_large_file_is_copied_and_checked",),
    ),
    Mutation(
        "G4",
        "onefold/edge/make.py",
        "half of a content is written where the disk takes no more at once",
        "while written < len(data):",
        "while False:",
        ("tests/edge/test_materialise.py::test_content_that_is_written_in_pieces_is_whole_in_the_end",),
    ),
    Mutation(
        "G4",
        "onefold/edge/make.py",
        "a file that is being made looks complete",
        "0o600 | UNFINISHED, dir_fd=tmp",
        "0o600, dir_fd=tmp",
        ("tests/edge/test_materialise_crash.py::test_a_crash_before_any_syscall_loses_nothing_and_invents_nothing",),
    ),
    Mutation(
        "G4",
        "onefold/edge/make.py",
        "a changed file is removed before the new version has its name",
        "        ctime_ns = os.fstat(old).st_ctime_ns if old is not None else -1\n        try:\n"
        "            linux.renameat2(space.tmp, new, parent, name, linux.RENAME_EXCHANGE)\n",
        "        ctime_ns = os.fstat(old).st_ctime_ns if old is not None else -1\n        try:\n"
        '            linux.renameat2(parent, name, space.tmp, new + b"x", linux.RENAME_NOREPLACE)\n'
        "            linux.renameat2(space.tmp, new, parent, name, linux.RENAME_NOREPLACE)\n"
        '            linux.renameat2(space.tmp, new + b"x", space.tmp, new, linux.RENAME_NOREPLACE)\n',
        (
            "tests/edge/test_materialise.py::test_at_every_step_of_a_replacement_a_reader_finds_the_old_or_the_new_version",
        ),
    ),
    Mutation(
        "G4",
        "onefold/core/plan.py",
        "a file is removed before another takes its place",
        "if old is not None and row.id in self.makes and Kind.DIRECTORY not in (row.kind, old.kind):",
        "if False:",
        ("tests/core/test_plan.py::test_a_file_that_takes_the_place_of_one_that_goes_is_exchanged_for_it",),
    ),
    Mutation(
        "G4",
        "onefold/core/catalogue.py",
        "a batch that is sent again is applied again: what it made comes back",
        "            if order <= newest:\n",
        "            if order < newest:\n",
        ("tests/core/test_catalogue.py::test_a_resent_batch_answers_its_first_outcomes_and_changes_nothing",),
    ),
    Mutation(
        "G4",
        "onefold/edge/scan.py",
        "a file that is written to while it is read is taken for a version",
        "if len(data) != seen.size or not _is(seen, os.fstat(fd)):",
        "if len(data) != seen.size:",
        ("tests/edge/test_scan.py::test_a_file_that_is_overwritten_in_place_during_each_reading_is_changing",),
    ),
    Mutation(
        "G4",
        "onefold/node/loop.py",
        "a node without a base places what its catalogue has, however old that is",
        "            await self.applier.reach(head)\n        await self.placer.run()",
        "        await self.placer.run()",
        (
            "tests/node/test_loop.py::test_g4_a_node_without_a_base_places_nothing_before_it_has_applied_through_the_logs_end",
        ),
    ),
    Mutation(
        "G4",
        "onefold/edge/make.py",
        "the last byte of a content is left out",
        "            written = os.write(fd, data)\n            while written < len(data):",
        "            written = os.write(fd, data[:-1])\n            while written < len(data) - 1:",
        (SIMULATED,),
    ),
    # ------------------------------------------------------------------------------------------------ G5
    Mutation(
        "G5",
        "onefold/core/plan.py",
        "a place that another move gave is not learnt",
        "elif row.placed != old.placed:",
        "elif False:",
        ("tests/core/test_plan.py::test_a_place_won_by_another_move_is_learnt_without_a_rename",),
    ),
    Mutation(
        "G5",
        "onefold/node/place.py",
        "what could not be done is not tried again",
        "        asyncio.get_running_loop().call_later(delay, self._retry, id)\n",
        "",
        ("tests/node/test_place.py::test_what_the_folder_refuses_is_looked_at_again_only_after_a_while",),
    ),
    Mutation(
        "G5",
        "onefold/node/place.py",
        "what makes room for a file does not come again with it",
        "return (action.row.id,) if action.base.id == action.row.id else (action.row.id, action.base.id)",
        "return (action.row.id,)",
        ("tests/node/test_place.py::test_what_was_to_make_room_goes_though_what_was_to_come_there_went_elsewhere",),
    ),
    Mutation(
        "G5",
        "onefold/node/sweep.py",
        "a sweep does not see what has no row",
        "odd = [path.child(name) for name in sorted(names.difference(row.name for row in rows))]",
        "odd = []",
        ("tests/node/test_sweep.py::test_what_no_event_told_of_is_found_one_directory_after_the_other",),
    ),
    Mutation(
        "G5",
        "onefold/node/sweep.py",
        "a sweep does not see what changed",
        "if not stands(row, self._scanner.observe(place, row, False)):",
        "if self._scanner.observe(place, row, False) is None:",
        ("tests/node/test_sweep.py::test_what_differs_from_the_base_is_found_though_nothing_is_new",),
    ),
    Mutation(
        "G5",
        "onefold/node/fetch.py",
        "what one peer lacks is asked of nobody else",
        "                wanted.lacking.add(peer)\n                self._queue[digest] = wanted\n",
        "                wanted.lacking.add(peer)\n",
        ("tests/node/test_fetch.py::test_what_one_peer_lacks_another_is_asked_for",),
    ),
    Mutation(
        "G5",
        "onefold/edge/watch.py",
        "lost events are not noticed",
        "overflow = overflow or bool(mask & linux.IN_Q_OVERFLOW)",
        "overflow = False",
        ("tests/edge/test_watch.py::test_an_overflow_makes_everything_be_looked_at_and_watched_again",),
    ),
    Mutation(
        "G5",
        "onefold/node/place.py",
        "the base may go round in a circle",
        "            return False\n        seen.add(id)\n",
        "            return above is not None\n        seen.add(id)\n",
        (
            "tests/node/test_place.py::"
            "test_a_directory_that_is_moved_into_one_that_the_base_has_below_it_does_not_end_below_itself",
        ),
    ),
    Mutation(
        "G5",
        "onefold/node/propose.py",
        "a batch that its leader lost is not sent again",
        "        while self.flight is flight:\n",
        "        if self.flight is flight:\n",
        (SIMULATED,),
    ),
    # ------------------------------------------------------------------------------------------------ G6
    Mutation(
        "G6",
        "onefold/edge/log_memory.py",
        "an append does not compare the term (the log of the simulator)",
        "if self._term() == term and cluster.head == index - 1:",
        "if cluster.head == index - 1:",
        (
            "tests/edge/test_log_conformance.py::test_g6_a_deposed_leaders_append_fails_and_names_the_new_term",
            SIMULATED,
        ),
    ),
    Mutation(
        "G6",
        "onefold/edge/log_etcd.py",
        "an append does not compare the term",
        "compare=[self._term_is(term), head_is_before],",
        "compare=[head_is_before],",
        ("tests/edge/test_log_conformance.py::test_g6_a_deposed_leaders_append_fails_and_names_the_new_term",),
    ),
    Mutation(
        "G6",
        "onefold/edge/log_etcd.py",
        "an append does not compare the head",
        "compare=[self._term_is(term), head_is_before],",
        "compare=[self._term_is(term)],",
        ("tests/edge/test_log_conformance.py::test_an_append_that_would_leave_a_hole_fails",),
    ),
    Mutation(
        "G6",
        "onefold/edge/log_etcd.py",
        "a takeover does not compare the term",
        "                compare=[self._term_is(seen)],\n",
        "",
        ("tests/edge/test_log_conformance.py::test_of_two_that_take_at_once_one_leads",),
    ),
    Mutation(
        "G6",
        "onefold/edge/log_etcd.py",
        "trimming does not compare the term",
        "pb.TxnRequest(compare=[self._term_is(term)], success=[pb.RequestOp(request_delete_range=delete)]),",
        "pb.TxnRequest(success=[pb.RequestOp(request_delete_range=delete)]),",
        ("tests/edge/test_log_conformance.py::test_g6_a_deposed_leader_trims_nothing",),
    ),
    Mutation(
        "G6",
        "onefold/edge/log_memory.py",
        "trimming does not compare the term (the log of the simulator)",
        "        if self._term() == term:\n            self._cluster.trim(through)",
        "        if True:\n            self._cluster.trim(through)",
        ("tests/edge/test_log_conformance.py::test_g6_a_deposed_leader_trims_nothing",),
    ),
    Mutation(
        "G6",
        "onefold/node/lead.py",
        "a new leader appends before it has applied through the log's end",
        "        await self._applier.reach(head)\n",
        "",
        ("tests/node/test_lead.py::test_g6_who_takes_over_leads_only_after_applying_through_the_logs_end",),
    ),
    Mutation(
        "G6",
        "onefold/node/lead.py",
        "a new leader does not read where the log ends",
        'head = await insist(self._clock, self._log.head, "took over, but the log does not answer")',
        "head = self._applier.index",
        (SIMULATED,),
    ),
    # ------------------------------------------------------------------------------------------------ G8
    Mutation(
        "G8",
        "onefold/edge/tls.py",
        "certificates are not asked for",
        "context.verify_mode = ssl.CERT_REQUIRED",
        "context.verify_mode = ssl.CERT_NONE",
        ("tests/edge/test_tls.py::test_g8_a_client_without_a_certificate_is_refused",),
    ),
    Mutation(
        "G8",
        "onefold/edge/tls.py",
        "older versions of TLS are spoken",
        "context.minimum_version = ssl.TLSVersion.TLSv1_3",
        "context.minimum_version = ssl.TLSVersion.TLSv1_2",
        ("tests/edge/test_tls.py::test_g8_older_versions_of_tls_are_refused",),
    ),
    Mutation(
        "G8",
        "onefold/edge/doors.py",
        "any certificate of our authority is let in",
        "if certified == self.me.node or certified not in self.members:",
        "if False:",
        ("tests/edge/test_transfer_hostile.py::test_a_valid_certificate_of_no_member_is_refused_and_shown",),
    ),
    Mutation(
        "G8",
        "onefold/edge/doors.py",
        "a peer may take another's name",
        "if message.node != certified:",
        "if False:",
        ("tests/edge/test_transfer_hostile.py::test_a_member_that_does_not_say_the_right_hello_is_refused",),
    ),
    Mutation(
        "G8",
        "onefold/edge/doors.py",
        "who answers need not be whom we dialled",
        "if certified != dialled:",
        "if False:",
        ("tests/edge/test_transfer_hostile.py::test_a_node_that_answers_at_anothers_address_is_refused",),
    ),
    Mutation(
        "G8",
        "onefold/core/paths.py",
        "a name may hold a separator",
        'if b"/" in raw or b"\\0" in raw or',
        'if b"\\0" in raw or',
        ("tests/core/test_paths.py::test_a_name_cannot_climb_or_separate",),
    ),
    Mutation(
        "G8",
        "onefold/core/catalogue.py",
        "a peer's name may hold a separator",
        'b"/" not in name and ',
        "",
        ("tests/core/test_catalogue.py::test_a_name_that_is_none_is_refused",),
    ),
    Mutation(
        "G8",
        "onefold/linux.py",
        "a path goes through symbolic links",
        "0x01 | 0x02 | 0x04 | 0x08",
        "0x01 | 0x02 | 0x08",
        ("tests/edge/test_linux.py::test_open_beneath_goes_through_no_symlink",),
    ),
    Mutation(
        "G8",
        "onefold/edge/etcd_process.py",
        "etcd asks nobody for a certificate",
        '                    f"{prefix}trusted-ca-file": str(self.tls.ca),\n'
        '                    f"{prefix}client-cert-auth": "true",\n',
        "",
        ("tests/edge/test_log_etcd.py::test_g8_etcd_lets_nobody_in_whom_our_authority_did_not_certify",),
    ),
)
