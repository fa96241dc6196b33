"""What every table of the admin has in common, whatever it lists."""

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from registry.admin.base import ListAdmin

LISTS = {
    model._meta.label_lower: page
    for model, page in admin.site._registry.items()
    if isinstance(page, ListAdmin)
}


@pytest.mark.parametrize("name", LISTS)
def test_an_empty_list_opens_and_exports_the_header_of_its_csv(
    name: str, admin_client: Client
) -> None:
    page = LISTS[name]
    address = reverse(f"admin:{name.replace('.', '_')}_changelist")
    assert admin_client.get(address).status_code == 200
    request = admin_client.get(address).wsgi_request
    if "export_csv" in page.actions:
        exported = page.export_csv(request, page.model.objects.none())
        assert exported.getvalue().decode() == ",".join(page.csv_fields) + "\r\n"
        assert page.csv_fields
    else:
        assert "export_selected" in page.actions


def test_the_lists_are_those_of_all_apps() -> None:
    assert {name.split(".")[0] for name in LISTS} == {
        "compression", "fleet", "ingest", "notifications", "registry",
    }  # fmt: skip
