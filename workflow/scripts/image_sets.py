from oodcert.execution.fork_server import hand_over

hand_over(snakemake, __file__)

from pathlib import Path

from oodcert.data import sets
from oodcert.data.settings import DataSettings
from oodcert.execution.jobs import job

with job(snakemake):
    settings = DataSettings.model_construct(**snakemake.params.data)  # those that the rule's sets depend on
    image_sets = getattr(sets, snakemake.params.sets)(settings, snakemake.params.data_mirror)
    for path in map(Path, snakemake.output):
        image_sets[path.stem].save(path)
