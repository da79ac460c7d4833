"""A translation-equivariant network for handwritten digits, its accuracy, and its file."""

import redunet as rn

X, y, X_test, y_test = rn.datasets.digits(n_train_per_class=50)  # images: (500, 1, 8, 8) and (1297, 1, 8, 8)

lift = rn.RandomLift(n_channels=16, kernel_size=5, random_state=0)  # 16 random filters, then ReLU
net, Z = rn.build(lift(X), y, n_layers=30, dft_norm="backward")  # Z: features on the sphere, (500, 16, 8, 8)
print(net)

classifier = rn.NearestSubspace(n_components=10).fit(Z, y)
Z_test = net.transform(lift(X_test))
print(f"test digits:                {classifier.score(Z_test, y_test):.3f}")
print(f"all their 64 translations:  {classifier.score_all_shifts(Z_test, y_test):.3f}")
print(f"at the best translation:    {classifier.score(Z_test, y_test, shifts='best'):.3f}")

net.save("digits.safetensors")
