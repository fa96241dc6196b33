"""Who may do what: Django's model permissions, reading included."""

from rest_framework.permissions import DjangoModelPermissions


class RegistryPermissions(DjangoModelPermissions):
    """`view` to read, `add` to upload, `change` to move; superusers may do all."""

    perms_map = {
        **DjangoModelPermissions.perms_map,
        "GET": ["%(app_label)s.view_%(model_name)s"],
    }


class ChangePermissions(RegistryPermissions):
    """For actions that are a POST and change a row that exists."""

    perms_map = {
        **RegistryPermissions.perms_map,
        "POST": ["%(app_label)s.change_%(model_name)s"],
    }
