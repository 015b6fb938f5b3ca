"""Monthly household budget: reads meter readings, prints what the month cost.

Run it with `python3 budget.py`. Prices are those of the tariff letter.
"""

from dataclasses import dataclass

# Price per kilowatt-hour in euros, from 1 January 2026.
PRICE_PER_KWH = 0.318
# Standing charge per month in euros.
STANDING_CHARGE = 12.50
# A month that costs more than this is worth a look at the heat meter.
ALERT_ABOVE_EUROS = 95.00


@dataclass(frozen=True)
class Reading:
    """One line of the meter book: month as YYYY-MM, counter in kilowatt-hours."""

    month: str
    counter_kwh: float


def cost(previous: Reading, current: Reading) -> float:
    """Euros for the electricity used between two readings."""
    used = current.counter_kwh - previous.counter_kwh
    if used < 0:
        raise ValueError(f"the counter runs backwards in {current.month}: {used} kWh")
    return round(used * PRICE_PER_KWH + STANDING_CHARGE, 2)


def report(readings: list[Reading]) -> list[str]:
    """One line per month; a star marks a month above the alert threshold."""
    lines = []
    for previous, current in zip(readings, readings[1:]):
        euros = cost(previous, current)
        star = " *" if euros > ALERT_ABOVE_EUROS else ""
        lines.append(f"{current.month}  {euros:7.2f} euros{star}")
    return lines


if __name__ == "__main__":
    book = [Reading("2025-12", 18_204.0), Reading("2026-01", 18_451.5), Reading("2026-02", 18_702.0)]
    print("\n".join(report(book)))
