"""Traced programs, evaluated otherwise: in complex numbers, with rounding added, choice by choice."""
