"""Names that training must not draw: they belong to the held-out tools."""

from scripts.demo_data.literals import words

TOOLS = frozenset(
    words(
        "get_current_weather send_email convert_currency book_table set_timer translate_text search_flights "
        "get_stock_price create_event find_recipe play_music order_taxi add_contact rent_bike water_garden"
    )
)
ARGUMENTS = frozenset(
    words(
        "location format recipient subject amount source_currency target_currency restaurant guests minutes text language "
        "origin destination symbol date ingredient artist pickup phone station hours liters zone"
    )
)
