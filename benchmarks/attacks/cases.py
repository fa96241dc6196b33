"""Which attack is carried out by which tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        who: what the attacker has.
        tries: what they try.
        holds: what must be so afterwards.
        tests: node ids below `tests/`, with or without a parameter.
    """

    who: str
    tries: str
    holds: str
    tests: tuple[str, ...]


ATTACKS = (
    Attack("the way to a device", "an unsigned delta that names the running model's file",
           "no file goes; it costs a download",
           ("edge_agent/control/test_hints.py::test_no_hint_at_all_removes_a_file",
            "edge_agent/control/test_hints.py::test_a_twisted_hint_costs_time_at_most")),
    Attack("the way to a device", "manifests and assignments with every field bent",
           "refused, the running model stays",
           ("edge_agent/test_trust.py::test_a_bad_manifest_is_refused",
            "edge_agent/test_trust.py::test_a_bad_assignment_is_refused",
            "edge_agent/test_trust.py::test_no_envelope_raises_anything_but_a_published_error")),
    Attack("one online key", "documents of another kind, or for ever",
           "the signing service refuses",
           ("registry/test_signer.py::test_a_role_signs_nothing_else",)),
    Attack("a yesterday's backup", "counters that devices have passed",
           "devices refuse, say so, and come back after one command",
           ("fleet/test_recovery.py",)),
    Attack("a join token", "the id of a registered or another device",
           "it is not taken over",
           ("fleet/test_device_security.py::test_a_registered_id_is_not_taken_over_by_a_token_without_auto_accept",
            "fleet/test_repeated_enrolment.py::test_nobody_else_and_no_later_call_gets_a_token")),
    Attack("one device's token", "another device's calls, and the API of people",
           "403 and 401",
           ("fleet/test_device_security.py::test_naming_another_device_in_a_body_is_403",
            "fleet/test_device_security.py::test_a_device_token_opens_no_persons_address",
            "config/test_permission_matrix.py::test_nobody_and_a_device_get_nowhere")),
    Attack("one device's token", "text and numbers that no store can hold",
           "400, and no later poll fails",
           ("fleet/test_hostile_input.py",)),
    Attack("one device's token", "calls without end", "429 with Retry-After",
           ("fleet/test_hostile_input.py::test_a_device_that_calls_too_often_is_told_when_to_come_back",)),
    Attack("one device's token", "one record that would stop counting for all",
           "its batch is set aside and seen; all others count",
           ("ingest/test_set_aside.py",)),
    Attack("the network", "80 half-sent bodies on each kind of address",
           "polls, sign-in and enrolment are answered meanwhile",
           ("platform/test_front.py::test_bodies_that_never_come_stop_nothing",
            "platform/test_front.py::test_a_body_that_is_too_slow_is_given_up")),
    Attack("the network", "forms with files, and bodies of gigabytes, to fill the disk",
           "refused unread",
           ("platform/test_front.py::test_a_form_with_files_is_refused_unread_where_none_is_meant",
            "platform/test_front.py::test_a_body_longer_than_its_address_takes_is_refused_unread",
            "platform/test_front.py::test_a_long_body_is_read_of_known_callers_alone")),
    Attack("the network", "passwords, one after the other",
           "a lock-out after five, an audit row for each, nothing of what was typed",
           ("config/test_sign_in.py::test_a_name_is_locked_out_after_five_wrong_passwords",
            "config/test_people.py::test_refused_logins_are_audited_without_what_was_typed")),
    Attack("a stolen password", "to sign in where there is a second factor",
           "nothing opens",
           ("config/test_sign_in.py::test_the_password_alone_opens_nothing_where_there_is_a_second_factor",
            "config/test_sign_in.py::test_who_needs_a_second_factor_gets_nowhere_without")),
    Attack("an account elsewhere", "to sign in without a role, as another, or with a bent answer",
           "refused; no account is made or taken over",
           ("config/test_single_sign_on.py",)),
    Attack("a stolen API token", "more than its scopes, in the whole API",
           "403 for each call",
           ("config/test_api_tokens.py",)),
    Attack("one role", "the acts of the others", "403 for each, and nothing changes",
           ("config/test_roles.py", "config/test_permission_matrix.py")),
    Attack("one permission", "every page and action of the admin", "only its own open",
           ("config/test_admin_matrix.py",)),
    Attack("the right to change people", "to give more than one has",
           "neither groups, permissions nor the superuser flag",
           ("config/test_roles.py::test_nobody_gives_what_they_do_not_have",)),
    Attack("Valkey", "a planted pickle", "it is not opened",
           ("platform/test_valkey_cache.py::test_a_planted_pickle_is_not_opened",)),
    Attack("Valkey's user", "the commands of an operator", "refused by its list of rights",
           ("platform/test_valkey_cache.py::test_the_user_of_the_container_file_may_do_its_work_and_no_operator_s",)),
    Attack("the server's database role", "to change the audit log or its trigger", "refused",
           ("platform/test_database_role.py",)),
    Attack("the database itself", "a past rewritten whole, or cut", "found by the signed ends",
           ("registry/test_audit_anchors.py",)),
)  # fmt: skip
