"""The inputs of statements: resolvers (name in FROM → relation) and observers (input → state). One
observation pass observes each input at most once. Imports everything below. Start reading at
`observation.py`.
"""
