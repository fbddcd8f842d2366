# oodcert: from image sets to the tables and figures of certified and attacked OOD detection.
# `snakemake --cores all` runs config/config.yaml; `--configfile config/OTHER.yaml` runs another profile.
from snakemake.utils import min_version

min_version("9.0")

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluations.smk"


if SHARDS > 1:

    include: "workflow/rules/shards.smk"


include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/paper.smk"


localrules:
    all,
    tables,
    figures,
    download,


rule all:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,
        rules.audit.output,
