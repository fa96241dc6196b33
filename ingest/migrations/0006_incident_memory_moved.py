from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('ingest', '0005_group_incidents_by_cause'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='incident',
            name='before_no_data',
        ),
        migrations.RemoveField(
            model_name='incident',
            name='calm',
        ),
        migrations.RemoveField(
            model_name='incident',
            name='recent',
        ),
    ]
