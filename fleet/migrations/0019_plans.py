import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("fleet", "0018_device_groups"),
    ]

    operations = [
        migrations.RenameModel("ModelCounter", "Plan"),
        migrations.RenameField("Plan", "value", "counter"),
        migrations.RenameField("Plan", "plan", "content"),
        migrations.RenameField("Plan", "plan_digest", "digest"),
        migrations.AlterField(
            "Plan",
            "model",
            models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="plan",
                to="registry.model",
            ),
        ),
    ]
