"""Held-out names; training's name lists hold none of them, its random words may."""

from scripts.demo_data.literals import bars, words

PEOPLE = words(
    "Alice Bob Charlotte David Emma Frank Grace Henry Isabel James Kevin Laura Martin Nina Oliver Peter Rachel Simon "
    "Thomas Victoria"
)
CITIES = bars(
    "Paris|London|Berlin|Madrid|Rome|Tokyo|New York|San Francisco|Chicago|Sydney|Toronto|Vienna|Lisbon|Oslo|Helsinki|Prague|"
    "Warsaw|Budapest|Athens|Dublin|Amsterdam|Brussels|Zurich|Geneva|Barcelona|Munich|Hamburg|Milan"
)
TOPICS = bars(
    "the ocean|autumn leaves|my grandmother|Kyoto temples|black holes|cooking|the Eiffel Tower|winter mornings|jazz|"
    "quantum physics|gardening|the moon"
)
