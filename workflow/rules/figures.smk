# The figures, and the example images that one of them shows.
FIGURE_NAMES = [
    *(["training"] if TRAINED else []),
    "scores",
    "l2_bracket",
    *(["one_pass", "certified_roc"] if CONFIG.evaluation.one_pass else []),
    "id_certified",
    "denoised",
    "headline",
    *(["ablation"] if CONFIG.evaluation.authors_code else []),
]


rule denoised_examples:
    input:
        sets=[ID_TEST, *OOD_TESTS],
        components=weights(["denoiser"]),
    output:
        f"{RESULTS}/evidence/denoised.npz",
    log:
        f"{LOGS}/denoised_examples.log",
    benchmark:
        f"{LOGS}/benchmarks/denoised_examples.tsv"
    conda:
        ENVIRONMENT
    threads: CONFIG.threads
    resources:
        mem_mb=growing(2000 + CUDA_MB),
        runtime=growing(30),
        gpu=GPU,
    params:
        **NETWORK_JOB,
        networks=networks_of(["denoiser"], CONFIG),
        sigmas=list(CONFIG.evaluation.certify_l2.sigmas),
    message:
        "Denoising examples of each image set"
    script:
        "../scripts/denoised_examples.py"


rule draw_figures:
    input:
        evidence=evidence(*of_methods(CONFIG)),
        training=expand(
            f"{RESULTS}/evidence/training/{{component}}.parquet", component=TRAINED
        ),
        denoised=rules.denoised_examples.output,
        checks=rules.check.output,
    output:
        expand(f"{FIGURES}/{{figure}}.pdf", figure=FIGURE_NAMES),
        **{
            figure: report(
                f"{FIGURES}/{figure}.png",
                caption=f"../report/figure_{figure}.rst",
                category="Figures",
                labels={"figure": figure},
            )
            for figure in FIGURE_NAMES
        },
    log:
        f"{LOGS}/figures.log",
    benchmark:
        f"{LOGS}/benchmarks/figures.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **{
            key: config[key]
            for key in ("seed", "data", "methods", "evaluation", "figures")
        },
    message:
        "Drawing the figures"
    script:
        "../scripts/figures.py"


rule figures:
    input:
        rules.draw_figures.output,
