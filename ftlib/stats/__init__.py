"""Arrays in, numbers and verdicts out.

What holds for every function of this room is said here once. Tables of scores are `(n_seeds, n_examples)`, or
`(n_examples,)` for one run; one row against several stands for every seed. `labels` are `(n_examples,)` and predictions
`(n_seeds, n_examples)` class numbers; `positive` is the class of `f1_binary`. `margin` is the smallest difference that
matters, in the unit of the scores. `alpha` is 1 - confidence of an interval and the level of a test. `clusters`,
`(n_examples,)`, names what each example comes from: examples that share a source count as one draw. `rng` is the only
source of chance; a function without one draws nothing. Whatever is not so is refused with an `FtlibError` that says
what was found and what is allowed.
"""
