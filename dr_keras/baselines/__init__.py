"""Arms that a rater is compared with: what each keeps of the train part, and why.

All arms of one comparison drop exactly as many examples. Each is a pure function to a `Selection`:

candidates.py
    window_candidates(examples) -> Candidates              every window by itself
    joined_candidates(examples) -> Candidates              whole documents of a windowed set
selection.py
    Selection: .arm .kept bool [N] .scores [N] .reasons [N] .rows .ids .achieved_fraction
        .examples() -> ExampleSet (corpus weights put right)   .budget() -> JSON-able dict
    kept_count(total, f) -> int                            total - floor(total f), exact
    batch_fraction(batch_size, f) -> Fraction              1 - B/B_up, to match an online arm
    select_by_score(arm, candidates, scores, f, seed=0, keep="highest"|"lowest"|"middle",
        method="threshold"|"keep_probability", batch_size=64) -> Selection
    random_arm(candidates, f, seed=0, match=None | Selection | {source: number}) -> Selection
heuristics.py (the rules in published_rules.py; what a rule and a text are in rules.py)
    heuristics(rules=None, bad_words=(), more_rules=(), passages=None,
        families=("c4", "gopher")) -> Heuristics, gin-configurable
        .measure(candidates) -> {rule: float64 [N]}   .broken(candidates) -> {rule: bool [N]}
    heuristics_arm(candidates, f, seed=0, scores=None, broken=None) -> Selection
scores.py
    Scores(values [N], training_flops=0.0, forward_flops=0.0, facts={})
    Scorer: (candidates, outer, seed=0) -> Scores; what rates candidates, an arm and a teacher
perplexity.py
    cross_perplexity(candidates, outer=None, trainer=LanguageModelTrainer, folds=2, ...) -> Scores
        nats per token, by models that never saw the document; gin-configurable, as all scorers
classifier.py (of the extra `study`, as all that imports it)
    NgramFeatures(unit="words", orders=(1, 2), buckets=65536), gin-configurable
    cross_classifier_scores(candidates, outer, features=None, folds=2, ...) -> Scores
reference_models.py
    ReferenceModels(candidates, outer, trainer, tuner, seed): .prior() .tuned() .of_outer(), each
        trained once; tuning_trainer(model_fn, steps=200, batch_size=8, learning_rate=1e-3)
conditional_loss.py, reference_loss.py, rho.py, influence.py: scorers by such models
mean_of_seeds.py: a scorer asked with several seeds; as such no arm, but a teacher
dsir.py, best_sources.py, token_prior.py: scorers without a network
source_weights.py
    source_weights(candidates, outer, table) -> Scores     from weights by source that are known
    filled_counts(weights, present, count) -> {source: number}, in proportion while there is enough
arms.py
    Baselines(candidates, outer, rater_scores=None, seed=0, cache_dir=None), gin-configurable
        .select(arm, f, seed=0) -> Selection; arm is one of ARMS, of its `more_arms` or of its
        `more_scorers`: "unfiltered", "rater", "rater_inverted", "random", "random_as_rater",
        "perplexity_lowest", "perplexity_middle", "perplexity_highest", "heuristics_c4",
        "heuristics_gopher", "heuristics", "heuristics_then_rater", "least_damaged" and all of
        SCORERS but "perplexity"; ON_REQUEST are those that no study runs unasked
        .scores(name) -> Scores, of one of SCORERS or of its `more_scorers`
        .candidates .rater_scores [N] .scored_by(arm) .broken("all")
"""
