"""Who may read, start and cancel jobs."""

from rest_framework.permissions import DjangoModelPermissions


class JobPermissions(DjangoModelPermissions):
    """`view` to read, `add` to start, `change` to cancel."""

    perms_map = {
        **DjangoModelPermissions.perms_map,
        "GET": ["%(app_label)s.view_%(model_name)s"],
    }


class CancelPermissions(JobPermissions):
    """Cancelling is a POST that changes a row that exists."""

    perms_map = {**JobPermissions.perms_map, "POST": ["%(app_label)s.change_%(model_name)s"]}
