# What is made of finished runs: the report, the analysis notebook, and the run as a research object.
REFERENCES = ["digits", "cifar-lite"]  # the committed runs that the report is about
EXPORTS = f"exports/{PROFILE}"


rule paper:
    input:
        sources=[
            REPOSITORY / "paper/report.typ",
            REPOSITORY / "paper/lib.typ",
            REPOSITORY / "paper/tables.typ",
            REPOSITORY / "paper/references.bib",
            *sorted((REPOSITORY / "paper/sections").glob("*.typ")),
        ],
        # a manifest changes with every file of its run
        manifests=[
            REPOSITORY / f"results/reference/{run}/manifest.json" for run in REFERENCES
        ],
        planned=REPOSITORY / "config/paper.yaml",
    output:
        report="paper/report.pdf",
        numbers="paper/numbers.json",
    log:
        "logs/paper.log",
    benchmark:
        "logs/benchmarks/paper.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    message:
        "Writing the report"
    script:
        "../scripts/paper.py"


rule notebook:
    input:
        source=f"{LIBRARY}/notebooks/analysis.ipynb",
        manifest=f"{RESULTS}/manifest.json",
    output:
        notebook=f"{EXPORTS}/analysis.ipynb",
        page=report(
            f"{EXPORTS}/analysis.html",
            caption="../report/notebook.rst",
            category="Notebook",
            labels={"notebook": "analysis"},
        ),
    log:
        f"{LOGS}/notebook.log",
    benchmark:
        f"{LOGS}/benchmarks/notebook.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        parameters=dict(
            bound=CONFIG.evaluation.certify_l2.bounds[0],
            sigma=CONFIG.evaluation.attack_l2.sigmas[0],
            radius=CONFIG.evaluation.attack_l2.sigmas[0],
        ),
    message:
        "Running the analysis notebook on {config[profile]}"
    script:
        "../scripts/notebook.py"


rule crate:
    input:
        manifest=f"{RESULTS}/manifest.json",
    output:
        f"{EXPORTS}/crate.zip",
    log:
        f"{LOGS}/crate.log",
    benchmark:
        f"{LOGS}/benchmarks/crate.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    message:
        "Packing the run of {config[profile]}"
    script:
        "../scripts/crate.py"
