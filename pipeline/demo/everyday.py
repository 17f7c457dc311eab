"""Everyday words for Waffle's noise, short and long; no caption of the demo contains any."""

from __future__ import annotations

_WORDS = """
accept afternoon agree anchor apron arrange autumn bag bakery balance barrel basket bathroom begin
blanket boat borrow bottle bread breakfast bridge broom bucket butter button calendar candle
carpet castle celebrate chair cheese climb clock coffee comb cook cousin cup curtain dance
daughter decide deliver desk dig doctor drawer drum engine envelope evening explain factory farm
fence find forest forget fork friend furniture garden gather glove grandmother guitar hammer hat
holiday hospital hurry ice imagine invite island jacket jam journey kettle key kitchen knock
ladder lamp language laugh lemon letter library listen lock lunch machine map market medicine
mirror money morning mountain music nap needle neighbour newspaper ocean office onion orchestra
oven paint paper passenger pencil piano pillow pocket potato promise question quilt radio rain
restaurant river road rope sandwich scissors shoe sing sleep soap spoon station stove street sugar
suitcase swim table telephone thunder ticket tie towel tractor travel umbrella understand
vegetable village visit wash weather wheel whisper window wool write yesterday
"""

EVERYDAY = tuple(_WORDS.split())
