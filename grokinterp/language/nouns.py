"""Lists of countable nouns, one for each kind of text that a model may have been trained on; all chosen here."""

from __future__ import annotations

from collections.abc import Mapping

from grokinterp.language.grammar import NOUNS, Noun

_STORIES = """dog cat boy girl bird bear ball car toy tree rabbit duck frog friend flower house truck doll train monkey lion bug squirrel horse
cow pig kid apple cake cookie hat balloon kite book bike boat star cloud rock stone owl elephant turtle snake spider bee ant
chicken king queen prince farmer doctor teacher pirate dragon monster robot ghost fairy dinosaur castle tower bridge road river
lake hill garden door window room bed table chair lamp cup bowl spoon plate bag basket ring coin drum bell rope stick leg hand eye
nose ear tail wing egg nut seed carrot banana potato bone button shirt coat sock"""
_TECHNICAL = """file option value command function user name list line key table node object variable server system package module window page
message number string type method argument parameter error result program field column row image layer buffer character color
group event device thread port host interface language script version project commit tag note section example question problem
change point word block bit cursor path pattern rule token symbol operator expression statement loop macro constant pointer array
vector matrix signal socket link menu button dialog tool plugin test task job step request response header record document driver
kernel terminal partition backup"""
_MORE = {
    "stories": "bunny:bunnies mouse:mice child:children man:men woman:women leaf:leaves butterfly:butterflies fox:foxes box:boxes wolf:wolves",
    "technical": "process:processes class:classes address:addresses directory:directories query:queries index:indexes library:libraries box:boxes "
    "branch:branches entry:entries property:properties",
}


def _listed(words: str, more: str) -> tuple[Noun, ...]:
    regular = [Noun(word, word + "s") for word in dict.fromkeys(words.split())]
    return (*regular, *(Noun(*pair.split(":")) for pair in more.split()))


NOUN_LISTS: Mapping[str, tuple[Noun, ...]] = {
    "everyday": NOUNS,
    "stories": _listed(_STORIES, _MORE["stories"]),
    "technical": _listed(_TECHNICAL, _MORE["technical"]),
}
"""By the kind of text: what the grammar has; things of children's stories; things of technical documentation."""
