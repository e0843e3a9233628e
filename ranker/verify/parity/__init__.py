"""Does every backend compute the same score for the same pair?"""
