x > 3
g IS NOT NULL
k IN (1, 2, 5)
d * 2 < 100 OR b
length(g) = 1
ts < '2020-01-03'
f > 0.5
NOT b
x % 3 = 0
