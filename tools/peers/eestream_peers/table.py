# SPDX-License-Identifier: MIT
"""What was measured, as text. A ratio above 1 means that eestream was faster."""

import statistics


def ratios(cell, name):
    ours = cell["seconds"]["eestream"]
    return sorted(peer / our for peer, our in zip(cell["seconds"][name], ours, strict=True))


def rows(cell):
    """(contender, ms a frame, frames a second, ratio text, RSS, difference of logits)"""
    for name, seconds in cell["seconds"].items():
        ms = 1e3 * statistics.median(seconds) / cell["frames"]
        if name == "eestream":
            yield name, ms, "1", cell["max_rss_mib"][name], "-"
        else:
            r = ratios(cell, name)
            differ = cell["logits_differ"][name] / cell["logits_spread"]
            yield name, ms, f"{statistics.median(r):.3f} ({r[0]:.3f}-{r[-1]:.3f})", cell["max_rss_mib"][name], f"{differ:.1e}"


def summary(cell):
    lines = [f"{cell['cell']} ({cell['cores']} cores, {cell['mode']})"]
    lines += [f"  {name:42} {ms:8.2f} ms a frame  {ratio:>24}  {rss:6.0f} MiB" for name, ms, ratio, rss, _ in rows(cell)]
    return "\n".join(lines)


def markdown(document):
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    out = [f"{document['cpu']}, {document['cores_allowed']} cores; {versions}; {document['rounds']} rounds, contenders in turn.",
           "Ratio: the contender's time over eestream's in the same round, median (min-max); above 1 eestream is faster. The last "
           "column: largest difference of logits to eestream's, as a share of their spread.", "",
           "| cell | cores | mode | contender | ms a frame | frames a second | ratio | max RSS MiB | logits |", "|" + "---|" * 9]
    for cell in document["cells"]:
        for name, ms, ratio, rss, differ in rows(cell):
            out.append(f"| {cell['cell']} | {cell['cores']} | {cell['mode']} | {name} | {ms:.2f} | {1e3 / ms:.2f} | {ratio} | "
                       f"{rss:.0f} | {differ} |")
    return "\n".join(out) + "\n"
