"""Makes the five roles, and gives the permissions that acts have now to who could act before."""

from django.contrib.auth.management import create_permissions
from django.db import migrations

from config.roles import ROLES, ensure_roles

#: Each new permission, and the one that has opened the act until now.
CARRIED_OVER = {
    ("registry", "decide_version"): ("registry", "change_version"),
    ("fleet", "decommission_device"): ("fleet", "change_device"),
    ("fleet", "release_at_once"): ("fleet", "change_deployment"),
}


def make_permissions(apps):
    """Django makes them after the last migration; the groups need them now."""
    for app_config in list(apps.get_app_configs()):
        app_config.models_module = True
        create_permissions(app_config, apps=apps, verbosity=0)
        app_config.models_module = None


def carry_over(apps):
    Permission = apps.get_model("auth", "Permission")
    for (app, name), (before_app, before) in CARRIED_OVER.items():
        new = Permission.objects.get(content_type__app_label=app, codename=name)
        old = Permission.objects.filter(content_type__app_label=before_app, codename=before).first()
        if old is None:
            continue
        for group in apps.get_model("auth", "Group").objects.filter(permissions=old):
            group.permissions.add(new)
        for user in apps.get_model("auth", "User").objects.filter(user_permissions=old):
            user.user_permissions.add(new)


def make_roles(apps, schema_editor):
    make_permissions(apps)
    carry_over(apps)
    Group = apps.get_model("auth", "Group")
    # A group that has such a name already is somebody's own: it gets nothing.
    taken = set(Group.objects.filter(name__in=ROLES).values_list("name", flat=True))
    ensure_roles(
        groups=Group.objects,
        permissions=apps.get_model("auth", "Permission").objects,
        names=[role for role in ROLES if role not in taken],
    )
    for role in sorted(taken):
        print(f"  the group {role!r} is there already and was left as it is")


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("knox", "0009_extend_authtoken_field"),
        ("registry", "0007_act_permissions"),
        ("fleet", "0015_act_permissions"),
        ("ingest", "0006_incident_memory_moved"),
        ("compression", "0002_identity_and_reruns"),
        ("notifications", "0001_initial"),
    ]
    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
