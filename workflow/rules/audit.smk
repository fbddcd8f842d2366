# The manifest of all files of the run, and the audit that recomputes everything from them.
EVIDENCE = [
    *evidence(*of_methods(CONFIG)),
    *rules.draw_figures.input.training,
    LINEAR,
]


rule manifest:
    input:
        EVIDENCE,
        [path.replace(".parquet", ".json") for path in EVIDENCE],
        rules.denoised_examples.output,
        rules.check.output,
        rules.write_tables.output,
        rules.draw_figures.output,
    output:
        f"{RESULTS}/manifest.json",
    log:
        f"{LOGS}/manifest.log",
    benchmark:
        f"{LOGS}/benchmarks/manifest.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        config={key: config[key] for key in config if key not in LOCAL},
    message:
        "Writing the manifest of {config[profile]}"
    script:
        "../scripts/manifest.py"


rule audit:
    input:
        rules.manifest.output,
    output:
        json=f"{RESULTS}/audit/report.json",
        html=report(
            f"{RESULTS}/audit/report.html",
            caption="../report/audit.rst",
            category="Audit",
        ),
    log:
        f"{LOGS}/audit.log",
    benchmark:
        f"{LOGS}/benchmarks/audit.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    message:
        "Auditing the run of {config[profile]}"
    script:
        "../scripts/audit.py"
