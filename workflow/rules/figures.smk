# The figures, each from the evidence it shows.
FIGURE_EVIDENCE = {
    "scores": evidence("clean"),
    "l2_bracket": evidence("certify_l2", "attack_l2"),
    "id_certified": evidence("certify_id"),
    "headline": evidence("clean", "guarantee_linf", "attack_linf"),
    "denoised": f"{RESULTS}/evidence/denoised.npz",
}


rule denoised_examples:
    input:
        sets=[ID_TEST, *OOD_TESTS],
        parts=weights(["denoiser"]),
    output:
        f"{RESULTS}/evidence/denoised.npz",
    log:
        f"{LOGS}/denoised_examples.log",
    benchmark:
        f"{LOGS}/benchmarks/denoised_examples.tsv"
    conda:
        ENVIRONMENT
    threads: config["threads"]
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=GPU,
    params:
        **NETWORK_JOB,
        networks=networks(["denoiser"]),
        sigmas=EVALUATION["certify_l2"]["sigmas"],
    message:
        "Denoising examples of each image set"
    script:
        "../scripts/denoised_examples.py"


rule draw_figure:
    input:
        evidence=lambda wildcards: FIGURE_EVIDENCE[wildcards.figure],
        checks=rules.check.output,
    output:
        png=report(
            f"{FIGURES}/{{figure}}.png",
            caption="../report/figure_{figure}.rst",
            category="Figures",
        ),
        pdf=f"{FIGURES}/{{figure}}.pdf",
    log:
        f"{LOGS}/figures/{{figure}}.log",
    benchmark:
        f"{LOGS}/benchmarks/figures/{{figure}}.tsv"
    wildcard_constraints:
        figure="|".join(FIGURE_EVIDENCE),
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        **{
            key: config[key]
            for key in ("seed", "data", "methods", "evaluation", "figures")
        },
    message:
        "Drawing {wildcards.figure}"
    script:
        "../scripts/figure.py"


rule figures:
    input:
        expand(
            f"{FIGURES}/{{figure}}.{{format}}",
            figure=FIGURE_EVIDENCE,
            format=["pdf", "png"],
        ),
