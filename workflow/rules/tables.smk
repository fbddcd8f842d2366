# The order check that everything waits for, and the tables.
TABLES = [
    "id",
    "autoattack",
    "ood",
    "l2",
    "sanity",
    "headline",
    *(["ablation"] if CONFIG.evaluation.authors_code else []),
    "claims",
    "reported",
]
PAPER = Path(LIBRARY).parent / "paper"


rule check:
    input:
        evidence(
            "clean",
            "guarantee_linf",
            "attack_linf",
            "certify_l2",
            "attack_l2",
            *(["one_pass"] if CONFIG.evaluation.one_pass else []),
        ),
        LINEAR,
    output:
        report(
            f"{RESULTS}/checks.csv",
            caption="../report/checks.rst",
            category="Checks",
        ),
    log:
        f"{LOGS}/check.log",
    benchmark:
        f"{LOGS}/benchmarks/check.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        confidence=(
            CONFIG.evaluation.one_pass.confidence
            if CONFIG.evaluation.one_pass
            else None
        ),
    message:
        "Checking that guaranteed, attacked and clean scores are in order"
    script:
        "../scripts/check.py"


rule write_tables:
    input:
        evidence=evidence(*of_methods(CONFIG)),
        linear=LINEAR,
        checks=rules.check.output,
        paper=[PAPER / "claims.yaml", PAPER / "reported.csv"],
    output:
        expand(f"{RESULTS}/tables/{{table}}.tex", table=TABLES),
        [
            report(
                f"{RESULTS}/tables/{table}.md",
                caption=f"../report/table_{table}.rst",
                category="Tables",
                labels={"table": table, "format": "md"},
            )
            for table in TABLES
        ],
        **{
            table: report(
                f"{RESULTS}/tables/{table}.csv",
                caption=f"../report/table_{table}.rst",
                category="Tables",
                labels={"table": table, "format": "csv"},
            )
            for table in TABLES
        },
    log:
        f"{LOGS}/tables.log",
    benchmark:
        f"{LOGS}/benchmarks/tables.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **{
            key: config[key]
            for key in (
                "seed",
                "protocol",
                "data",
                "methods",
                "weights",
                "imports",
                "networks",
                "training",
                "evaluation",
            )
        },
        # the captions of the report are those of the .md files there
        folder=Path(RESULTS) / "tables",
    message:
        "Writing the tables"
    script:
        "../scripts/tables.py"


rule tables:
    input:
        rules.write_tables.output,
